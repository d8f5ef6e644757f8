/** The Unix socket of the API in the data directory, which only this account and root can enter. */
import { Effect, Option, type Scope } from "effect"
import { constants } from "node:fs"
import { type FileHandle, mkdir, open, rm } from "node:fs/promises"
import { join } from "node:path"
import { DataDirectory } from "./DataDirectory.ts"
import { attemptAt, DataDirectoryUnusable, foreignOwner, isTrustedOwner } from "./secretFiles.ts"

/** Path of the socket, for messages. */
export const apiSocketPath = (dataDir: string): string => join(socketDirectory(dataDir), "socket")

const socketDirectory = (dataDir: string): string => join(dataDir, "api")

/** An open directory. Its files are used through `at`, so that they stay in the directory that was checked. */
export interface OpenDirectory {
  readonly path: string
  /** User id. */
  readonly owner: number
  readonly mode: number
  /** Path of a file in the directory. */
  readonly at: (name: string) => string
  readonly chmod: (mode: number) => Promise<void>
}

/**
 * Opens a directory until the scope ends; none if it does not exist. On Linux its files are reached through the descriptor, so
 * that a check of the directory holds for them, and so that the path of a socket is short enough (107 bytes). Other systems
 * have no such path.
 */
export const openDirectory = (
  path: string,
  at: string = path,
  flags = 0
): Effect.Effect<Option.Option<OpenDirectory>, DataDirectoryUnusable, Scope.Scope> =>
  Effect.gen(function*() {
    const handle = yield* Effect.acquireRelease(
      attemptAt(path, () => open(at, constants.O_RDONLY | constants.O_DIRECTORY | flags).catch(absentAsUndefined)),
      (handle) => Effect.promise(async () => handle?.close())
    )
    if (handle === undefined) return Option.none()
    const { mode, uid } = yield* attemptAt(path, () => handle.stat())
    const base = process.platform === "linux" ? `/proc/self/fd/${handle.fd}` : at
    return Option.some({
      path,
      owner: uid,
      mode,
      at: (name: string) => join(base, name),
      chmod: (mode: number) => handle.chmod(mode)
    })
  })

const absentAsUndefined = (error: NodeJS.ErrnoException): FileHandle | undefined => {
  if (error.code === "ENOENT") return undefined
  throw error
}

/** Opens the directory of the socket. Fails for a link, and for a directory of an account that this process does not trust. */
const openSocketDirectory = Effect.fnUntraced(function*(dataDir: OpenDirectory) {
  const path = socketDirectory(dataDir.path)
  const opened = yield* openDirectory(path, dataDir.at("api"), constants.O_NOFOLLOW)
  if (Option.isSome(opened) && !isTrustedOwner(opened.value.owner, dataDir.owner))
    return yield* new DataDirectoryUnusable({ path, reason: foreignOwner(opened.value.owner) })
  return opened
})

/**
 * The path to connect to; none without a socket directory. The path is valid until the scope ends. Fails if another account can
 * enter the directory, because such an account could answer in place of Control.
 */
export const findApiSocket = Effect.fnUntraced(function*(dataDir: OpenDirectory) {
  const opened = yield* openSocketDirectory(dataDir)
  if (Option.isNone(opened)) return Option.none<string>()
  const { at, mode, path } = opened.value
  if ((mode & 0o077) !== 0) {
    return yield* new DataDirectoryUnusable({
      path,
      reason: `other accounts can enter it (mode ${(mode & 0o777).toString(8)}); restart Control, which closes it`
    })
  }
  return Option.some(yield* shortEnough(path, at("socket")))
})

/**
 * The path to listen on; none if this process uses no data directory. A socket of a killed process is removed, because this process
 * holds the lock of the data directory. The path is valid until the scope ends.
 */
export const newApiSocket = Effect.gen(function*() {
  const dataDir = yield* (yield* DataDirectory).opened
  if (Option.isNone(dataDir)) return Option.none<string>()
  const parent = yield* openDirectory(dataDir.value.path)
  if (Option.isNone(parent)) return Option.none<string>()
  const path = socketDirectory(dataDir.value.path)
  yield* attemptAt(path, () =>
    mkdir(parent.value.at("api"), { mode: 0o700 }).catch((error) => {
      if (error.code !== "EEXIST") throw error
    }))
  const opened = yield* openSocketDirectory(parent.value)
  if (Option.isNone(opened)) return Option.none<string>()
  const { at, chmod, mode } = opened.value
  if ((mode & 0o077) !== 0) yield* attemptAt(path, () => chmod(0o700))
  const socket = yield* shortEnough(path, at("socket"))
  yield* attemptAt(path, () => rm(socket, { force: true }))
  return Option.some(socket)
})

/** Maximum length of the address of a Unix socket in bytes; 103 on macOS, which is the shortest. */
const maxPathBytes = process.platform === "linux" ? 107 : 103

const shortEnough = (path: string, socket: string): Effect.Effect<string, DataDirectoryUnusable> =>
  Buffer.byteLength(socket) <= maxPathBytes
    ? Effect.succeed(socket)
    : Effect.fail(
      new DataDirectoryUnusable({
        path,
        reason: `the path of its socket is longer than ${maxPathBytes} bytes; set CONTROL_DATA_DIR to a shorter path`
      })
    )
