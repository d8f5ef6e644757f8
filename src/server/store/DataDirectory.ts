/** The data directory, locked for one process: generated secrets and the embedded database. */
import { makeDirectory } from "#files/makeDirectory.ts"
import { Settings } from "#server/Settings.ts"
import { Context, Effect, Layer, Option, type Redacted, Schema, Scope } from "effect"
import { chmodSync } from "node:fs"
import { access, chmod, constants, lstat, readdir, readFile, rm, stat, writeFile } from "node:fs/promises"
import { hostname } from "node:os"
import { join, resolve } from "node:path"
import { DatabaseSync } from "node:sqlite"
import {
  attemptAt,
  DataDirectoryUnusable,
  foreignOwner,
  isTrustedOwner,
  readOrCreateSecretFile,
  readSecretFile,
  writeSecretFile
} from "./secretFiles.ts"

export { DataDirectoryUnusable } from "./secretFiles.ts"

/** Another process, or this one, holds the lock of the directory. */
export class DataDirectoryBusy extends Schema.TaggedError<DataDirectoryBusy>()("DataDirectoryBusy", {
  path: Schema.String,
  holder: Schema.String
}) {
  override get message(): string {
    return `the data directory ${this.path} is in use by ${this.holder}; stop that process, or set CONTROL_DATA_DIR to another directory`
  }
}

/** The secrets in the data directory; also their file names. */
export type SecretName = "admin-token" | "master-key" | "master-key.old"

/** An open data directory; this process holds the lock. */
export interface OpenedDataDirectory {
  /** Absolute path. */
  readonly path: string
  /** The path of a secret's file, whether or not the file exists. */
  readonly secretPath: (name: SecretName) => string
  /**
   * Reads the secret with this name (a file of mode 0600) without its trailing newline. Without a file, stores the result of
   * `generate` first. A process that is killed while it stores leaves the whole secret or no file.
   */
  readonly readOrCreateSecret: <E>(
    name: SecretName,
    generate: Effect.Effect<string, E>
  ) => Effect.Effect<Redacted.Redacted, DataDirectoryUnusable | E>
  /** Reads the secret with this name; none without a file. */
  readonly findSecret: (name: SecretName) => Effect.Effect<Option.Option<Redacted.Redacted>, DataDirectoryUnusable>
  /** Replaces the secret with this name atomically. */
  readonly writeSecret: (name: SecretName, secret: Redacted.Redacted) => Effect.Effect<void, DataDirectoryUnusable>
  /** Removes the secret with this name. Does nothing without a file. */
  readonly removeSecret: (name: SecretName) => Effect.Effect<void, DataDirectoryUnusable>
}

/** Opens the directory of `CONTROL_DATA_DIR` at its first use. A node with external database and secrets never uses it. */
export class DataDirectory extends Context.Service<DataDirectory, {
  /** Opens and locks the directory once; the lock lasts until the layer is released. */
  readonly open: Effect.Effect<OpenedDataDirectory, DataDirectoryBusy | DataDirectoryUnusable>
  /** The directory, if `open` has succeeded before. */
  readonly opened: Effect.Effect<Option.Option<OpenedDataDirectory>>
}>()("control/store/DataDirectory") {
  static readonly layer = Layer.effect(
    DataDirectory,
    Effect.gen(function*() {
      const settings = yield* Settings
      const scope = yield* Effect.scope
      let opened = Option.none<OpenedDataDirectory>()
      const open = yield* Effect.cached(
        Scope.provide(openDataDirectory(settings.dataDir), scope).pipe(
          Effect.tap((directory) =>
            Effect.sync(() => {
              opened = Option.some(directory)
            })
          )
        )
      )
      return DataDirectory.of({ open, opened: Effect.sync(() => opened) })
    })
  )
}

/** Creates the directory with mode 0700 if it does not exist, and locks it until the scope ends. */
export const openDataDirectory = Effect.fn("openDataDirectory")(
  function*(
    given: string
  ): Effect.fn.Return<OpenedDataDirectory, DataDirectoryBusy | DataDirectoryUnusable, Scope.Scope> {
    const path = resolve(given)
    yield* attemptAt(path, () => makeDirectory(path))
    yield* attemptAt(path, () => access(path, constants.R_OK | constants.W_OK | constants.X_OK))
    yield* checkOwners(path)
    yield* Effect.acquireRelease(lock(path), unlock)
    yield* Effect.acquireRelease(
      attemptAt(path, () => writeFile(holderFile(path), `process ${process.pid} on ${hostname()}\n`, { mode: 0o600 })),
      () => Effect.ignore(attemptAt(path, () => rm(holderFile(path), { force: true })))
    )
    // Earlier builds of 0.3.0 published the URL of the API there.
    yield* Effect.ignore(attemptAt(path, () => rm(join(path, "api-url"), { force: true })))

    const secretPath = (name: SecretName): string => join(path, name)
    const findSecret = (name: SecretName) => Effect.map(readSecretFile(secretPath(name)), Option.fromUndefinedOr)
    const writeSecret = (name: SecretName, secret: Redacted.Redacted) => writeSecretFile(secretPath(name), secret)
    const removeSecret = (name: SecretName) => attemptAt(secretPath(name), () => rm(secretPath(name), { force: true }))
    const readOrCreateSecret = <E>(name: SecretName, generate: Effect.Effect<string, E>) =>
      readOrCreateSecretFile(
        secretPath(name),
        Effect.tap(generate, () => Effect.logInfo(`generated ${secretPath(name)}`))
      )

    return { path, secretPath, readOrCreateSecret, findSecret, writeSecret, removeSecret }
  }
)

/**
 * Refuses a directory of another account, and files in it that another account has put there. If other accounts can write in the
 * directory, closes it and warns.
 */
const checkOwners = Effect.fnUntraced(function*(path: string) {
  const { mode, uid } = yield* attemptAt(path, () => stat(path))
  if (!isTrustedOwner(uid, uid)) return yield* new DataDirectoryUnusable({ path, reason: foreignDirectory(uid) })
  const isOpen = (mode & 0o022) !== 0
  for (const name of yield* attemptAt(path, () => readdir(path))) {
    const file = join(path, name)
    const owner = (yield* attemptAt(file, () => lstat(file))).uid
    // Under root, PostgreSQL has another account. Only root can put its files into a closed directory.
    const isDatabase = name === "postgres" && process.getuid?.() === 0 && !isOpen
    if (!isDatabase && !isTrustedOwner(owner, uid))
      return yield* new DataDirectoryUnusable({ path: file, reason: foreignOwner(owner) })
  }
  if (!isOpen) return
  const isOwn = uid === process.getuid?.() || process.getuid?.() === 0
  if (isOwn) yield* attemptAt(path, () => chmod(path, 0o700))
  yield* Effect.logWarning(
    `other accounts could write in the data directory ${path} (mode ${(mode & 0o777).toString(8)}); ` +
      (isOwn ? "its mode is now 700" : `its owner is user id ${uid}, so that only that account can set its mode to 700`)
  )
})

const foreignDirectory = (owner: number): string =>
  `the directory belongs to user id ${owner}, but Control runs as user id ${process.getuid?.()}; ` +
  "start Control as its owner, or set CONTROL_DATA_DIR to another directory"

/**
 * A lock of the kernel, taken through SQLite because Node has no other way to take one. The kernel releases the lock however
 * its holder dies, and keeps it for a stopped process (SIGSTOP). A file with a process id would fail in both cases, and with
 * ids that are reused or belong to another container. The file `lock` stays after the release. If it were removed, two
 * processes could lock two files of the same name.
 *
 * DANGER: POSIX drops such a lock as soon as its process closes any descriptor of the file. Nothing else in this process may
 * open the file `lock`.
 */
const lock = Effect.fnUntraced(function*(path: string) {
  const file = yield* Effect.try({
    try: () => openLocked(join(path, "lock")),
    catch: (error) =>
      new DataDirectoryUnusable({ path, reason: `cannot lock it: ${error instanceof Error ? error.message : error}` })
  })
  if (file !== "locked") return file
  const holder = yield* Effect.orElseSucceed(attemptAt(path, () => readFile(holderFile(path), "utf8")), () => "")
  return yield* new DataDirectoryBusy({ path, holder: holder.trim() || "another process" })
})

/** The locked file, or `"locked"` if another connection holds the lock. */
const openLocked = (path: string): DatabaseSync | "locked" => {
  const database = new DatabaseSync(path, { timeout: 0 })
  try {
    database.exec("PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE")
    // Every account that may read the file could lock it.
    chmodSync(path, 0o600)
    heldLocks.add(database)
    return database
  } catch (error) {
    database.close()
    if (isBusy(error)) return "locked"
    throw error
  }
}

/** References to the locked files, because garbage collection of such an object would release its lock. */
const heldLocks = new Set<DatabaseSync>()

const unlock = (database: DatabaseSync): Effect.Effect<void> =>
  Effect.andThen(
    Effect.sync(() => {
      heldLocks.delete(database)
      database.close()
    }),
    Effect.logDebug("the data directory is unlocked")
  )

/** SQLITE_BUSY. */
const isBusy = (error: unknown): boolean => error instanceof Error && "errcode" in error && error.errcode === 5

/**
 * Text for error messages only. The file can outlive its process, so only the lock decides whether the directory is in use.
 */
const holderFile = (path: string): string => join(path, "holder")
