/** `control backup FILE` and `control restore FILE`: through a server, or on the database itself. */
import { Settings } from "#server/Settings.ts"
import { Backup, type BackupFailed } from "#store/backup/Backup.ts"
import { type BackupSummary, verifyBackup } from "#store/backup/file.ts"
import { checkBackup, Restore } from "#store/backup/Restore.ts"
import { DoctorStore } from "#store/DoctorStore.ts"
import { Console, Effect, Option, Stream } from "effect"
import { Prompt } from "effect/cli"
import { join } from "node:path"
import { type CommandFailed, fail } from "./CommandFailed.ts"
import * as Offline from "./offline.ts"
import { saveFile } from "./saveFile.ts"
import { Asking, download, findServer, givenUrl } from "./apiClient.ts"

/** What was backed up or restored, as it is printed. */
const told = (file: string, rows: BackupSummary["rows"], revision: number) => ({ file, revision, ...rows })

const failed = (error: { readonly message: string }) => fail("failed", error.message)

/**
 * A server that is named is asked. Else a database that others reach too is read directly; and an embedded one only while no
 * server holds it, which is asked otherwise.
 */
export const backup = Effect.fn("cli.backup")(function*(file: string) {
  const isGiven = Option.isSome(yield* givenUrl)
  const direct = Effect.gen(function*() {
    if ((yield* (yield* DoctorStore).version) === 0)
      return yield* fail("failed", "the database has no tables of Control")
    return yield* save(file, (yield* Backup).dump)
  }).pipe(
    Effect.provide(Offline.asItIs),
    Effect.provide(Offline.quietLog),
    Effect.provide(Offline.settings)
  )
  const summary = isGiven ? yield* fromServer(file) : yield* direct.pipe(
    Effect.catchTag("DataDirectoryBusy", () => fromServer(file)),
    Effect.catchTags({
      DataDirectoryUnusable: failed,
      EmbeddedPostgresFailed: failed,
      StoreUnavailable: ({ message }) => fail("unreachable", message),
      SqlError: () => fail("unreachable", "the database of DATABASE_URL does not answer")
    })
  )
  yield* Console.error(
    `control: ${file} is whole. Private keys in it are encrypted` +
      (summary.header.masterKey === null ? "" : ` under master key ${summary.header.masterKey}`) +
      ", which is not in it: keep a copy of that key, apart from the file"
  )
  return told(file, summary.rows, summary.header.revision)
})

const fromServer = Effect.fnUntraced(function*(file: string) {
  const server = yield* findServer
  return yield* save(file, Stream.provide(download(server, { method: "GET", path: "/api/backup" }), Asking))
})

const save = Effect.fnUntraced(function*(file: string, bytes: Stream.Stream<Uint8Array, BackupFailed | CommandFailed>) {
  let summary: BackupSummary | undefined
  yield* saveFile(file, Stream.mapError(bytes, failed), (draft) =>
    Effect.matchEffect(verifyBackup(draft), {
      onSuccess: (whole) =>
        Effect.sync(() => {
          summary = whole
        }),
      onFailure: ({ reason }) => fail("failed", `no backup was made: what came is not whole: ${reason}`)
    }))
  return summary ?? (yield* fail("failed", "no backup was made"))
})

interface RestoreOptions {
  readonly replace: boolean
  readonly yes: boolean
}

/** Nothing is touched before the file, its version and the master key are right, and whoever asks has said that it is meant. */
export const restore = Effect.fn("cli.restore")(
  function*(file: string, { replace, yes }: RestoreOptions) {
    const { dataDir, databaseUrl } = yield* Settings
    const cipher = Option.getOrUndefined(yield* Offline.cipher)
    if (cipher === undefined) {
      return yield* fail(
        "failed",
        `there is no master key to read ${file} with: put the one that it was written under into ` +
          `${join(dataDir, "master-key")} (mode 0600), or give it as CONTROL_MASTER_KEY_FILE`
      )
    }
    yield* Effect.mapError(checkBackup(file, cipher), failed)
    if (replace && !yes) yield* confirmed(Option.isSome(databaseUrl) ? "the database of DATABASE_URL" : dataDir)
    const done = yield* Effect.flatMap(Restore, (store) => store.restore(file, cipher, { replace })).pipe(
      Effect.provide(Offline.upToDate),
      Effect.provide(Offline.quietLog)
    )
    yield* Console.error(
      "control: restored, on a new timeline: every client gets its whole view anew. Who is connected now is told to come again"
    )
    return told(file, done.rows, done.revision)
  },
  Effect.catchTags({
    DataDirectoryBusy: failed,
    DataDirectoryUnusable: failed,
    EmbeddedPostgresFailed: failed,
    StoreUnavailable: ({ message }) => fail("unreachable", message),
    SchemaTooNew: failed,
    MigrationFailed: failed,
    BackupUnusable: failed,
    DatabaseNotEmpty: failed,
    RestoreFailed: failed,
    SqlError: () => fail("unreachable", "the database of DATABASE_URL does not answer")
  }),
  Effect.provide(Offline.settings)
)

const confirmed = Effect.fnUntraced(function*(what: string) {
  if (!process.stdin.isTTY) return yield* fail("usage", `--replace discards all that is in ${what}: say --yes as well`)
  const isMeant = yield* Prompt.run(Prompt.Confirm({ message: `Discard all that is in ${what}?`, initial: false }))
    .pipe(
      Effect.orElseSucceed(() => false)
    )
  if (!isMeant) return yield* fail("failed", "nothing was changed")
})
