/** Files of the data directory that hold secrets: only of this account, no links, mode 0600. */
import { writeFileAtomic } from "#files/writeFileAtomic.ts"
import { Effect, Redacted, Schema } from "effect"
import { constants } from "node:fs"
import { open, stat } from "node:fs/promises"
import { dirname } from "node:path"

/** The directory, or a file in the directory, cannot be read or written. */
export class DataDirectoryUnusable extends Schema.TaggedError<DataDirectoryUnusable>()("DataDirectoryUnusable", {
  path: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `cannot use the data directory: ${this.path}: ${this.reason}`
  }
}

/** Runs file work. Messages of Node, such as `EACCES: permission denied, open '…'`, name paths and never file contents. */
export const attemptAt = <A>(path: string, run: () => Promise<A>): Effect.Effect<A, DataDirectoryUnusable> =>
  Effect.tryPromise({
    try: run,
    catch: (error) =>
      error instanceof DataDirectoryUnusable
        ? error
        : new DataDirectoryUnusable({
          path,
          reason: error instanceof Error ? withoutDescriptor(error.message) : String(error)
        })
  })

/** A path below an open directory says nothing to a person. */
const withoutDescriptor = (message: string): string => message.replace(/, \w+ '\/proc\/self\/fd\/.*'$/u, "")

/**
 * Whether files of the account `owner` may be used in a data directory of the account `directoryOwner`. Root can do everything
 * anyway. For root itself, the owner of the directory counts too, because root can serve the directory of an ordinary account.
 */
export const isTrustedOwner = (owner: number, directoryOwner: number): boolean => {
  const self = process.getuid?.() ?? 0
  return owner === self || owner === 0 || self === 0 && owner === directoryOwner
}

/** Explains that a file belongs to another account. */
export const foreignOwner = (owner: number): string =>
  `it belongs to user id ${owner}, but Control runs as user id ${process.getuid?.()}; ` +
  "if you trust its content, change its owner (chown), otherwise remove it"

/**
 * Reads a secret without its trailing newline; undefined without a file. Fails for a link and for a file of another account. A
 * file that other accounts can access gets mode 0600 and a warning. `at` is another path of the file, which messages do not show.
 */
export const readSecretFile = Effect.fnUntraced(function*(path: string, at: string = path) {
  const read = yield* attemptAt(path, async () => {
    const file = await open(at, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch((error) => {
      if (error.code === "ENOENT") return undefined
      throw error.code === "ELOOP" ? new DataDirectoryUnusable({ path, reason: isLink }) : error
    })
    if (file === undefined) return undefined
    try {
      const status = await file.stat()
      if (!status.isFile()) throw new DataDirectoryUnusable({ path, reason: "it is not a file" })
      if (!isTrustedOwner(status.uid, (await stat(dirname(at))).uid))
        throw new DataDirectoryUnusable({ path, reason: foreignOwner(status.uid) })
      const exposed = (status.mode & 0o077) === 0 ? undefined : (status.mode & 0o777).toString(8)
      if (exposed !== undefined) await file.chmod(0o600)
      return { text: await file.readFile("utf8"), exposed }
    } finally {
      await file.close()
    }
  })
  if (read === undefined) return undefined
  if (read.exposed !== undefined) {
    yield* Effect.logWarning(
      `${path} was accessible to other accounts (mode ${read.exposed}); ` +
        "its mode is now 600; consider replacing the secret"
    )
  }
  const secret = read.text.replace(/\r?\n$/u, "")
  if (secret === "") {
    return yield* new DataDirectoryUnusable({ path, reason: "the file is empty; restore it from a backup" })
  }
  return Redacted.make(secret)
})

/** Explains that a link is not followed. */
const isLink = "it is a symbolic link, and Control follows none here; replace it by the file, or set " +
  "CONTROL_MASTER_KEY_FILE or CONTROL_ADMIN_TOKEN_FILE to the target"

/** Replaces the secret atomically, mode 0600. */
export const writeSecretFile = (path: string, secret: Redacted.Redacted): Effect.Effect<void, DataDirectoryUnusable> =>
  attemptAt(path, () => writeFileAtomic(path, `${Redacted.value(secret)}\n`))

/**
 * Reads the secret. Without a file, stores the result of `generate` first. A process that is killed while it stores leaves the
 * whole secret or no file.
 */
export const readOrCreateSecretFile = Effect.fnUntraced(
  function*<E>(path: string, generate: Effect.Effect<string, E>) {
    const stored = yield* readSecretFile(path)
    if (stored !== undefined) return stored
    const generated = Redacted.make(yield* generate, { label: path })
    yield* writeSecretFile(path, generated)
    return generated
  }
)
