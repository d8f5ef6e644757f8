/** `control backup FILE` and `control restore FILE`: through a server, or directly on the database. */
import { Settings } from "#server/Settings.ts"
import { Backup, type BackupFailed } from "#store/backup/Backup.ts"
import { type BackupSummary, verifyBackup } from "#store/backup/file.ts"
import { checkBackup, Restore } from "#store/backup/Restore.ts"
import { readSignature } from "#store/backup/signature.ts"
import { DoctorStore } from "#store/DoctorStore.ts"
import { Console, Effect, Option, Stream } from "effect"
import { Prompt } from "effect/cli"
import { join } from "node:path"
import { download } from "./apiClient.ts"
import { type CommandFailed, commandFailed } from "./CommandFailed.ts"
import { configuredUrl, findServer } from "./findServer.ts"
import * as Offline from "./offline.ts"
import { saveFile } from "./saveFile.ts"
import { warningLog } from "./warningLog.ts"

/** The summary that both commands print: rows by table, and the revision of the backup. */
const summaryOf = (file: string, rows: BackupSummary["rows"], revision: number) => ({ file, revision, ...rows })

const failed = (error: { readonly message: string }) => commandFailed("failed", error.message)

const databaseUnreachable = () =>
  commandFailed("unreachable", "no answer from the database of DATABASE_URL; check that PostgreSQL runs there")

/**
 * Asks the server of `CONTROL_API_URL` if that is set. Otherwise reads the database directly, and asks the server of this
 * machine if that server has locked the embedded database, or if only the server knows its database.
 */
export const backup = Effect.fn("cli.backup")(function*(file: string) {
  const hasConfiguredUrl = Option.isSome(yield* configuredUrl)
  const fromDatabase = Effect.gen(function*() {
    if ((yield* (yield* DoctorStore).readSchemaVersion) === 0) {
      return yield* commandFailed("failed", "the database has no tables of Control; check DATABASE_URL")
    }
    return yield* save(file, (yield* Backup).dump(yield* Offline.cipher))
  }).pipe(
    Effect.provide(Offline.existingDatabase),
    Effect.provide(warningLog),
    Effect.provide(Offline.settings)
  )
  const fromMachine = fromDatabase.pipe(
    Effect.catchTag("DataDirectoryBusy", () => fromServer(file)),
    Effect.catchTags({
      DataDirectoryUnusable: failed,
      EmbeddedPostgresFailed: failed,
      StoreUnavailable: ({ message }) => commandFailed("unreachable", message),
      SqlError: databaseUnreachable
    })
  )
  const fromServerIfRunning = Effect.catchIf(
    fromServer(file),
    ({ kind }) => kind === "unreachable" && !hasConfiguredUrl,
    () => fromMachine
  )
  const hasDatabase = !hasConfiguredUrl && (yield* Effect.provide(Offline.hasDatabase, Offline.settings))
  const summary = yield* hasDatabase ? fromMachine : fromServerIfRunning
  const notice = yield* checkSaved(file, summary)
  const { masterKey } = summary.header
  yield* Console.error(
    `control: saved ${file}; it is complete${notice}. Private keys in it are encrypted` +
      (masterKey === null ? "" : ` with master key ${masterKey}`) +
      ". The file does not contain the master key: keep a copy of the key, apart from the file"
  )
  return summaryOf(file, summary.rows, summary.header.revision)
})

/** Checks what a restore checks, as far as the master keys of this machine allow. */
const checkSaved = Effect.fnUntraced(function*(file: string, summary: BackupSummary) {
  const cipher = Option.getOrUndefined(
    yield* Offline.cipher.pipe(Effect.provide(Offline.settings), Effect.orElseSucceed(Option.none))
  )
  const signature = Option.getOrUndefined(yield* Effect.mapError(readSignature(file), failed))
  if (signature === undefined) {
    return " and not signed, because this machine does not have the master key: a restore needs --accept-unsigned"
  }
  const { masterKey } = summary.header
  if (cipher === undefined || masterKey === null || !cipher.readableIds.has(masterKey)) return " and signed"
  yield* Effect.mapError(
    checkBackup(file, cipher, { acceptUnsigned: false }),
    ({ reason }) => commandFailed("failed", `saved ${file}, but a restore would refuse it: ${reason}`)
  )
  return ", signed and readable with the master key of this machine"
})

const fromServer = Effect.fnUntraced(function*(file: string) {
  const server = yield* findServer
  return yield* save(file, download(server, { method: "GET", path: "/api/backup" }))
})

const save = Effect.fnUntraced(function*(file: string, bytes: Stream.Stream<Uint8Array, BackupFailed | CommandFailed>) {
  let summary: BackupSummary | undefined
  yield* saveFile(
    file,
    Stream.catchTag(bytes, "BackupFailed", (error) => Stream.fail(failed(error))),
    (draft) =>
      Effect.matchEffect(verifyBackup(draft), {
        onSuccess: (verified) =>
          Effect.sync(() => {
            summary = verified
          }),
        onFailure: ({ reason }) =>
          commandFailed("failed", `no backup was saved, because a restore would refuse it: ${reason}`)
      })
  )
  return summary ?? (yield* commandFailed("failed", "no backup was saved"))
})

interface RestoreOptions {
  readonly acceptUnsigned: boolean
  readonly replace: boolean
  readonly yes: boolean
}

/** Changes nothing until the file, its version and the master key are checked, and the operator has confirmed. */
export const restore = Effect.fn("cli.restore")(
  function*(file: string, { acceptUnsigned, replace, yes }: RestoreOptions) {
    const { dataDir, databaseUrl } = yield* Settings
    const cipher = Option.getOrUndefined(yield* Offline.cipher)
    if (cipher === undefined) {
      return yield* commandFailed(
        "failed",
        `there is no master key to read ${file}; copy the key of the backup to ${join(dataDir, "master-key")} ` +
          "(mode 0600), or set CONTROL_MASTER_KEY_FILE"
      )
    }
    yield* Effect.mapError(checkBackup(file, cipher, { acceptUnsigned }), failed)
    if (replace && !yes) yield* confirmReplace(Option.isSome(databaseUrl) ? "the database of DATABASE_URL" : dataDir)
    const restored = yield* Effect.flatMap(Restore, (store) => store.restore(file, cipher, { acceptUnsigned, replace }))
      .pipe(
        Effect.provide(Offline.migratedDatabase),
        Effect.provide(warningLog)
      )
    yield* Console.error(
      "control: restored on a new timeline. Connected clients reconnect, and every client receives a snapshot"
    )
    return summaryOf(file, restored.rows, restored.revision)
  },
  Effect.catchTags({
    DataDirectoryBusy: failed,
    DataDirectoryUnusable: failed,
    EmbeddedPostgresFailed: failed,
    StoreUnavailable: ({ message }) => commandFailed("unreachable", message),
    SchemaTooNew: failed,
    MigrationFailed: failed,
    BackupUnusable: failed,
    DatabaseNotEmpty: failed,
    RestoreFailed: failed,
    SqlError: databaseUnreachable
  }),
  Effect.provide(Offline.settings)
)

const confirmReplace = Effect.fnUntraced(function*(database: string) {
  if (!process.stdin.isTTY) {
    return yield* commandFailed("usage", `--replace discards all data in ${database}; confirm with --yes`)
  }
  const isConfirmed = yield* Prompt.run(
    Prompt.Confirm({ message: `Discard all data in ${database}?`, initial: false })
  ).pipe(Effect.orElseSucceed(() => false))
  if (!isConfirmed) return yield* commandFailed("failed", "nothing was changed")
})
