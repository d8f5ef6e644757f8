/** The directory that a process keeps its own things in: generated secrets and the embedded database. One process at a time. */
import { Effect, Option, Redacted, Schema, type Scope } from "effect"
import { randomBytes } from "node:crypto"
import { chmodSync, existsSync } from "node:fs"
import { access, chmod, constants, mkdir, open, readFile, rename, rm, stat, writeFile } from "node:fs/promises"
import { hostname } from "node:os"
import { join, resolve } from "node:path"
import { DatabaseSync } from "node:sqlite"

/** Another process, or this one, has the directory open. */
export class DataDirectoryBusy extends Schema.TaggedError<DataDirectoryBusy>()("DataDirectoryBusy", {
  path: Schema.String,
  holder: Schema.String
}) {
  override get message(): string {
    return `the data directory ${this.path} is in use by ${this.holder}: stop that one first, or set CONTROL_DATA_DIR to another directory`
  }
}

/** The directory, or something in it, cannot be read or written as it must be. */
export class DataDirectoryUnusable extends Schema.TaggedError<DataDirectoryUnusable>()("DataDirectoryUnusable", {
  path: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `the data directory cannot be used: ${this.path}: ${this.reason}`
  }
}

export type SecretName = "admin-token" | "master-key" | "master-key.old"

export interface DataDirectory {
  /** Absolute. */
  readonly path: string
  /** Where the secret of that name lies. */
  readonly pathOf: (name: SecretName) => string
  /**
   * The secret in the file of that name, mode 0600, without the newline at its end. Where there is none, what `generate`
   * gives is stored first: either all of it or, should the process be killed meanwhile, nothing.
   */
  readonly secret: <E>(
    name: SecretName,
    generate: Effect.Effect<string, E>
  ) => Effect.Effect<Redacted.Redacted, DataDirectoryUnusable | E>
  /** The secret in the file of that name, if there is one. */
  readonly find: (name: SecretName) => Effect.Effect<Option.Option<Redacted.Redacted>, DataDirectoryUnusable>
  /** Puts the secret in the place of any other: all of it is there, or the other one still is. */
  readonly store: (name: SecretName, secret: Redacted.Redacted) => Effect.Effect<void, DataDirectoryUnusable>
  readonly remove: (name: SecretName) => Effect.Effect<void, DataDirectoryUnusable>
}

/** Creates the directory, mode 0700, if need be, and holds it until the scope ends: nobody else can open it meanwhile. */
export const openDataDirectory = Effect.fn("openDataDirectory")(
  function*(
    given: string
  ): Effect.fn.Return<DataDirectory, DataDirectoryBusy | DataDirectoryUnusable, Scope.Scope> {
    const path = resolve(given)
    yield* attempt(path, () => mkdir(path, { recursive: true, mode: 0o700 }))
    yield* attempt(path, () => access(path, constants.R_OK | constants.W_OK | constants.X_OK))
    yield* Effect.acquireRelease(lock(path), unlock)
    yield* Effect.acquireRelease(
      attempt(path, () => writeFile(holderFile(path), `process ${process.pid} on ${hostname()}\n`, { mode: 0o600 })),
      () => Effect.ignore(attempt(path, () => rm(holderFile(path), { force: true })))
    )

    const pathOf = (name: SecretName): string => join(path, name)
    const find = (name: SecretName) => Effect.map(readSecret(pathOf(name)), Option.fromUndefinedOr)
    const store = (name: SecretName, secret: Redacted.Redacted) =>
      attempt(pathOf(name), () => replaceFile(path, pathOf(name), `${Redacted.value(secret)}\n`))
    const remove = (name: SecretName) => attempt(pathOf(name), () => rm(pathOf(name), { force: true }))
    const secret = Effect.fn("DataDirectory.secret")(
      function*<E>(name: SecretName, generate: Effect.Effect<string, E>) {
        const file = pathOf(name)
        const stored = yield* readSecret(file)
        if (stored !== undefined) return stored
        const generated = Redacted.make(yield* generate, { label: name })
        yield* store(name, generated)
        yield* Effect.logInfo(`generated ${file}`)
        return generated
      }
    )

    return { path, pathOf, secret, find, store, remove }
  }
)

/**
 * The lock is the kernel's, taken through SQLite since Node offers no other way to one. So it ends with its holder
 * however that dies, stays with one that is merely stopped, cannot be mistaken over a process id that was given out
 * again or that counts in another container, and of two that race for it one wins. The file stays when the lock is
 * given back: removing it would let two processes lock two files of the same name.
 *
 * POSIX drops such a lock as soon as its process closes any descriptor of the file: nothing else here may open it.
 */
const lock = Effect.fnUntraced(function*(path: string) {
  const file = yield* Effect.try({
    try: () => lockedFile(join(path, "lock")),
    catch: (error) => new DataDirectoryUnusable({ path, reason: `it cannot be locked: ${reasonOf(error)}` })
  })
  if (file !== "locked") return file
  const holder = yield* Effect.orElseSucceed(attempt(path, () => readFile(holderFile(path), "utf8")), () => "")
  return yield* new DataDirectoryBusy({ path, holder: holder.trim() || "another process" })
})

const lockedFile = (path: string): DatabaseSync | "locked" => {
  const database = new DatabaseSync(path, { timeout: 0 })
  try {
    database.exec("PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE")
    // Whoever may read the file may lock it too.
    chmodSync(path, 0o600)
    held.add(database)
    return database
  } catch (error) {
    database.close()
    if (isLocked(error)) return "locked"
    throw error
  }
}

/** Whether a living process has the directory. Looks without taking the lock; for other processes than the one that has it. */
export const isDataDirectoryHeld = (given: string): Effect.Effect<boolean> =>
  Effect.sync(() => {
    const file = join(resolve(given), "lock")
    if (!existsSync(file)) return false
    const database = new DatabaseSync(file, { timeout: 0, readOnly: true })
    try {
      database.exec("SELECT count(*) FROM sqlite_schema")
      return false
    } catch (error) {
      return isLocked(error)
    } finally {
      database.close()
    }
  })

/** A lock that nothing refers to would be given back when its object is collected. */
const held = new Set<DatabaseSync>()

const unlock = (database: DatabaseSync): Effect.Effect<void> =>
  Effect.sync(() => {
    held.delete(database)
    database.close()
  })

/** SQLITE_BUSY. */
const isLocked = (error: unknown): boolean => error instanceof Error && "errcode" in error && error.errcode === 5

/** Only words for people: whether the directory is held is for the lock to say, and this file may outlive a holder. */
const holderFile = (path: string): string => join(path, "holder")

const readSecret = Effect.fnUntraced(function*(file: string) {
  const status = yield* attempt(file, () => stat(file)).pipe(
    Effect.catchIf((error) => error.reason.includes("ENOENT"), () => Effect.succeed(undefined))
  )
  if (status === undefined) return undefined
  if ((status.mode & 0o077) !== 0) {
    yield* Effect.logWarning(
      `${file} was open to others than its owner: its mode is 0600 again; consider replacing the secret`
    )
    yield* attempt(file, () => chmod(file, 0o600))
  }
  const secret = (yield* attempt(file, () => readFile(file, "utf8"))).replace(/\r?\n$/u, "")
  if (secret === "") {
    return yield* new DataDirectoryUnusable({ path: file, reason: "it is empty; restore it from a backup" })
  }
  return Redacted.make(secret)
})

/** Written beside, flushed, and renamed, so that a file is there as a whole and stays there after a power cut. */
const replaceFile = async (directory: string, file: string, content: string): Promise<void> => {
  const draft = `${file}.${randomBytes(6).toString("hex")}`
  try {
    await using handle = await open(draft, "wx", 0o600)
    await handle.writeFile(content)
    await handle.sync()
    await rename(draft, file)
  } catch (error) {
    await rm(draft, { force: true })
    throw error
  }
  await using parent = await open(directory, "r")
  await parent.sync()
}

const attempt = <A>(path: string, run: () => Promise<A>): Effect.Effect<A, DataDirectoryUnusable> =>
  Effect.tryPromise({ try: run, catch: (error) => new DataDirectoryUnusable({ path, reason: reasonOf(error) }) })

/** Node's own words, such as `EACCES: permission denied, open '…'`: they name paths, never contents. */
const reasonOf = (error: unknown): string => error instanceof Error ? error.message : String(error)
