/** Runs an embedded PostgreSQL as a child process on a Unix socket, in the data directory. */
import { endWithThisProcess } from "#processes/endWithParent.ts"
import { Clock, Deferred, Duration, Effect, Fiber, Redacted, Schedule, type Scope } from "effect"
import { spawn } from "node:child_process"
import { closeSync, openSync } from "node:fs"
import { chown, mkdtemp, open, readFile, rename, rm, rmdir, stat } from "node:fs/promises"
import { tmpdir } from "node:os"
import { basename, dirname, join, resolve } from "node:path"
import { attemptIO, EmbeddedPostgresFailed } from "./EmbeddedPostgresFailed.ts"
import { type Binaries, findBinaries } from "./binaries.ts"
import { accountFor } from "./account.ts"
import { requirePassword } from "./authentication.ts"
import { clusterDirectory, clusterPathFor, findErrorLine, prepareCluster } from "./cluster.ts"
import {
  type Account,
  childEnvironment,
  fastShutdown,
  findProcesses,
  sendSignal,
  stopGracefully,
  waitUntil
} from "./processes.ts"

export { EmbeddedPostgresFailed } from "./EmbeddedPostgresFailed.ts"

/** Options of `startEmbeddedPostgres`. */
export interface EmbeddedPostgresOptions {
  /**
   * Must exist and be locked by this process (`openDataDirectory`), because any PostgreSQL that runs there is stopped as a
   * leftover.
   */
  readonly dataDir: string
  /** Additional settings of PostgreSQL, for example `{ fsync: "off" }` in tests. */
  readonly settings?: Readonly<Record<string, string>>
  /** Maximum wait until PostgreSQL accepts connections, including crash recovery. Default: 2 minutes. */
  readonly startTimeout?: Duration.Input
}

/**
 * Starts PostgreSQL and keeps it running until the scope ends. Restarts it when it dies; connection pools then reconnect.
 * The database is `control`. Its one user `control` is a superuser with a random password, which is in the data directory. The
 * socket and its directory have mode 0700, and there is no TCP port.
 */
export const startEmbeddedPostgres = (
  options: EmbeddedPostgresOptions
): Effect.Effect<
  { readonly url: Redacted.Redacted },
  EmbeddedPostgresFailed,
  Scope.Scope
> => inRealTime(start({ ...options, dataDir: resolve(options.dataDir) }))

/** Child processes run in real time, also in a test with a simulated clock. */
const inRealTime = Effect.provideService(Clock.Clock, Clock.Clock.defaultValue())

const start = Effect.fn("startEmbeddedPostgres")(function*(options: EmbeddedPostgresOptions) {
  const { dataDir, settings = {} } = options
  const account = yield* accountFor(dataDir)
  const binaries = yield* findBinaries(account)
  yield* stopLeftovers(dataDir)
  yield* prepareCluster(dataDir, binaries, account, settings["fsync"] !== "off")
  const password = yield* requirePassword(dataDir, binaries, account)
  const socketDir = yield* socketDirectory(dataDir, account)

  const ready = yield* Deferred.make<void>()
  const fiber = yield* Effect.forkScoped(keepRunning({ ...options, account, binaries, socketDir, ready }))
  yield* Effect.raceFirst(Deferred.await(ready), Fiber.join(fiber))
  const url = `postgres://control:${Redacted.value(password)}@localhost/control?host=${encodeURIComponent(socketDir)}`
  return { url: Redacted.make(url) }
})

interface Running extends EmbeddedPostgresOptions {
  readonly account: Account
  readonly binaries: Binaries
  readonly socketDir: string
  /** Done when PostgreSQL has accepted connections for the first time. */
  readonly ready: Deferred.Deferred<void>
}

/** Fails only if the first start fails. Afterwards it restarts PostgreSQL without limit. */
const keepRunning = (running: Running): Effect.Effect<never, EmbeddedPostgresFailed> => {
  const untilItDies = Effect.scoped(Effect.gen(function*() {
    const server = yield* launch(running)
    yield* Deferred.succeed(running.ready, undefined)
    const end = yield* Deferred.await(server.exited)
    yield* Effect.logError(`the embedded database has stopped unexpectedly (${end}); restarting it`)
  }))
  const again = Effect.andThen(stopLeftovers(running.dataDir), untilItDies).pipe(
    Effect.tapError((error) => Effect.logError(error.message)),
    Effect.retry(Schedule.min([Schedule.exponential("100 millis"), Schedule.spaced("5 seconds")]))
  )
  return untilItDies.pipe(
    Effect.andThen(Effect.repeat(again, Schedule.spaced("100 millis"))),
    Effect.andThen(Effect.never)
  )
}

/** Starts PostgreSQL for the lifetime of the scope. Fails if PostgreSQL ends before it accepts connections. */
const launch = Effect.fnUntraced(function*(running: Running) {
  const log = join(running.dataDir, "postgres.log")
  yield* rotate(log)
  const from = yield* sizeOf(log)
  const server = yield* Effect.acquireRelease(
    attemptIO(() => spawnServer(running, log)),
    ({ pid, exited }) =>
      pid === undefined
        ? Effect.void
        : Effect.andThen(
          stopGracefully((signal) => Effect.sync(() => sendSignal(pid, signal)), Deferred.await(exited)),
          Effect.logDebug("the embedded PostgreSQL has stopped")
        )
  )

  const isReady = Effect.map(
    readPostmaster(running.dataDir),
    (postmaster) => postmaster !== undefined && postmaster.pid === server.pid && postmaster.status === "ready"
  )
  const startTimedOut = new EmbeddedPostgresFailed({
    reason: `PostgreSQL does not accept connections within the start timeout; see ${log}`
  })
  const diedEarly = Effect.flatMap(
    Deferred.await(server.exited),
    (end) =>
      Effect.flatMap(readFrom(log, from), (text) =>
        Effect.fail(
          new EmbeddedPostgresFailed({
            reason: `PostgreSQL ended during its start (${text === "" ? end : findErrorLine(text)}); see ${log}; ` +
              `if ${clusterDirectory(running.dataDir)} is damaged, restore a backup`
          })
        ))
  )
  yield* waitUntil(isReady).pipe(
    Effect.timeoutOrElse({
      duration: running.startTimeout ?? Duration.minutes(2),
      orElse: () => Effect.fail(startTimedOut)
    }),
    Effect.raceFirst(diedEarly)
  )
  return server
})

interface Server {
  /** Undefined if the program could not start. */
  readonly pid: number | undefined
  /** Completes with the exit code or signal, as text. */
  readonly exited: Deferred.Deferred<string>
}

/**
 * Starts PostgreSQL in a separate session, so that Ctrl-C in the terminal does not stop it before the server has drained. Stops it
 * when this process is killed.
 */
const spawnServer = ({ account, binaries, dataDir, socketDir, settings }: Running, log: string): Server => {
  const cluster = clusterDirectory(dataDir)
  const exited = Deferred.makeUnsafe<string>()
  const file = openSync(log, "a", 0o600)
  try {
    const child = spawn(binaries.postgres, [
      "-D",
      clusterPathFor(cluster, account),
      "-k",
      socketDir === cluster ? "." : socketDir,
      ...Object.entries({ ...fixedSettings, ...settings }).flatMap(([name, value]) => ["-c", `${name}=${value}`])
    ], { ...account, cwd: cluster, env: childEnvironment, stdio: ["ignore", file, file], detached: true })
    endWithThisProcess(child, fastShutdown, account)
    child.once("error", (error) => Deferred.doneUnsafe(exited, Effect.succeed(error.message)))
    child.once(
      "exit",
      (code, signal) => Deferred.doneUnsafe(exited, Effect.succeed(signal === null ? `exit code ${code}` : `${signal}`))
    )
    return { pid: child.pid, exited }
  } finally {
    closeSync(file)
  }
}

/** Passed on the command line, which overrides the configuration files of the cluster. */
const fixedSettings = {
  listen_addresses: "",
  unix_socket_permissions: "0700",
  fsync: "on",
  shared_buffers: "64MB",
  max_wal_size: "256MB",
  // Parallel queries need more shared memory than containers have by default, and the queries of Control are small.
  max_parallel_workers_per_gather: "0",
  timezone: "UTC",
  log_timezone: "UTC",
  log_destination: "stderr",
  logging_collector: "off",
  log_checkpoints: "off",
  // Without "terse", the log would quote rows of failed statements: hashes of keys, and encrypted values.
  log_error_verbosity: "terse"
}

/** macOS allows socket paths of 103 bytes, Linux of 107 bytes. */
const maxSocketPathBytes = 100

/** The name of PostgreSQL's socket for its default port. */
const socketName = ".s.PGSQL.5432"

const temporaryPrefix = "control-socket-"

/** The cluster directory; or a private temporary directory, if the path is too long for a socket. */
const socketDirectory = Effect.fnUntraced(function*(dataDir: string, { uid, gid }: Account) {
  const cluster = clusterDirectory(dataDir)
  if (Buffer.byteLength(join(cluster, socketName)) <= maxSocketPathBytes) return cluster
  return yield* Effect.acquireRelease(
    attemptIO(async () => {
      const directory = await mkdtemp(join(tmpdir(), temporaryPrefix))
      if (uid !== undefined && gid !== undefined) await chown(directory, uid, gid)
      return directory
    }),
    removeTemporary
  )
})

const isTemporary = (directory: string): boolean =>
  dirname(directory) === tmpdir() && basename(directory).startsWith(temporaryPrefix)

/** Removes the socket directory of a PostgreSQL that has stopped after its server was killed. PostgreSQL leaves it empty. */
const removeUnusedSocketDirectory = (dataDir: string): Effect.Effect<void> =>
  Effect.ignore(attemptIO(async () => {
    const options = await readFile(join(clusterDirectory(dataDir), "postmaster.opts"), "utf8")
    const directory = / "-k" "([^"]+)"/u.exec(options)?.[1] ?? ""
    if (isTemporary(directory)) await rmdir(directory)
  }))

const removeTemporary = (directory: string): Effect.Effect<void> =>
  Effect.ignore(attemptIO(() => rm(directory, { recursive: true, force: true })))

/**
 * Stops the PostgreSQL that a killed Control has left running, and removes its pid and lock files. Otherwise PostgreSQL would
 * mistake an unrelated process with the old process id for itself, which happens in restarted containers.
 */
const stopLeftovers = Effect.fnUntraced(function*(dataDir: string) {
  const running = findProcesses(clusterDirectory(dataDir), ["postgres"])
  const postmaster = yield* readPostmaster(dataDir)
  const found = yield* running
  if (found.length > 0) {
    yield* Effect.logWarning(`stopping a PostgreSQL that an earlier run has left in ${clusterDirectory(dataDir)}`)
    // The postmaster stops its children. Without a postmaster, each process needs the signal.
    const send = (signal: NodeJS.Signals) =>
      Effect.map(running, (pids) => {
        const first = pids.filter((pid) => pid === postmaster?.pid)
        for (const pid of first.length > 0 ? first : pids) sendSignal(pid, signal)
      })
    yield* stopGracefully(send, waitUntil(Effect.map(running, (pids) => pids.length === 0)))
    if ((yield* running).length > 0) {
      return yield* new EmbeddedPostgresFailed({
        reason: `PostgreSQL processes ${found.join(", ")} of an earlier run do not end; stop them by hand`
      })
    }
  }
  if (postmaster === undefined) return yield* removeUnusedSocketDirectory(dataDir)
  if (isTemporary(postmaster.socketDir)) yield* removeTemporary(postmaster.socketDir)
  if (process.platform !== "linux") return
  yield* attemptIO(() => rm(postmasterFile(dataDir), { force: true }))
  yield* attemptIO(() => rm(join(clusterDirectory(dataDir), `${socketName}.lock`), { force: true }))
})

const postmasterFile = (dataDir: string): string => join(clusterDirectory(dataDir), "postmaster.pid")

/** Reads the process id, first socket directory and status from postmaster.pid (format: pidfile.h of PostgreSQL). */
const readPostmaster = (dataDir: string) =>
  attemptIO(() => readFile(postmasterFile(dataDir), "utf8")).pipe(
    Effect.map((text) => {
      const lines = text.split("\n").map((line) => line.trim())
      return { pid: Number(lines[0]), socketDir: lines[4] ?? "", status: lines[7] ?? "" }
    }),
    Effect.orElseSucceed(() => undefined)
  )

const maxLogBytes = 10 * 1024 * 1024

const rotate = Effect.fnUntraced(function*(log: string) {
  if ((yield* sizeOf(log)) > maxLogBytes) yield* attemptIO(() => rename(log, `${log}.1`))
})

const sizeOf = (path: string): Effect.Effect<number> =>
  Effect.orElseSucceed(attemptIO(async () => (await stat(path)).size), () => 0)

/** The text that was appended after offset `from`, at most its last 64 KiB. */
const readFrom = (path: string, from: number): Effect.Effect<string> =>
  attemptIO(async () => {
    await using file = await open(path, "r")
    const { size } = await file.stat()
    const { buffer, bytesRead } = await file.read(Buffer.alloc(65_536), 0, 65_536, Math.max(from, size - 65_536))
    return buffer.toString("utf8", 0, bytesRead)
  }).pipe(Effect.orElseSucceed(() => ""))
