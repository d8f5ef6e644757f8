/** A private PostgreSQL for a server that was given none: a child process on a Unix socket, with its files in the data directory. */
import { Clock, Deferred, Duration, Effect, Fiber, Redacted, Schedule, type Scope } from "effect"
import { spawn } from "node:child_process"
import { closeSync, openSync } from "node:fs"
import { chown, mkdtemp, open, readFile, rename, rm, stat } from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join, resolve } from "node:path"
import { attempt, EmbeddedPostgresFailed } from "./EmbeddedPostgresFailed.ts"
import { type Binaries, findBinaries } from "./binaries.ts"
import { accountFor, clusterIn, complaintIn, pathFor, prepareCluster } from "./cluster.ts"
import { type Account, childEnvironment, processesIn, stop, tell, until } from "./processes.ts"

export { EmbeddedPostgresFailed } from "./EmbeddedPostgresFailed.ts"

export interface EmbeddedPostgresOptions {
  /** Must exist and be held by this process (`openDataDirectory`): what else runs on it is taken for a leftover and stopped. */
  readonly dataDir: string
  /** Further settings of PostgreSQL, such as `{ fsync: "off" }` in tests. */
  readonly settings?: Readonly<Record<string, string>>
  /** How long to wait until it accepts connections, recovery after a crash included; two minutes by default. */
  readonly startTimeout?: Duration.Input
}

/**
 * Starts PostgreSQL and keeps it running until the scope ends: one that dies is started again, and the pool of the URL heals
 * by itself. The database is `control`, its one user `control`, a superuser without a password: whoever can open the socket
 * is let in. That is safe since the socket lies in a directory of mode 0700 and is 0700 itself, so that the file system lets
 * in only the account of PostgreSQL, this process and root, who own the files anyway; there is no TCP port.
 */
export const startEmbeddedPostgres = (
  options: EmbeddedPostgresOptions
): Effect.Effect<
  { readonly url: Redacted.Redacted },
  EmbeddedPostgresFailed,
  Scope.Scope
> => inRealTime(start({ ...options, dataDir: resolve(options.dataDir) }))

/** Another process lives by the real clock, also under a test whose own stands still. */
const inRealTime = Effect.provideService(Clock.Clock, Clock.Clock.defaultValue())

const start = Effect.fn("startEmbeddedPostgres")(function*(options: EmbeddedPostgresOptions) {
  const { dataDir, settings = {} } = options
  const account = yield* accountFor(dataDir)
  const binaries = yield* findBinaries(account)
  yield* stopLeftovers(dataDir)
  yield* prepareCluster(dataDir, binaries, account, settings["fsync"] !== "off")
  const socketDir = yield* socketDirectory(dataDir, account)

  const ready = yield* Deferred.make<void>()
  const fiber = yield* Effect.forkScoped(keepRunning({ ...options, account, binaries, socketDir, ready }))
  yield* Effect.raceFirst(Deferred.await(ready), Fiber.join(fiber))
  const url = `postgres://control@localhost/control?host=${encodeURIComponent(socketDir)}`
  return { url: Redacted.make(url) }
})

interface Running extends EmbeddedPostgresOptions {
  readonly account: Account
  readonly binaries: Binaries
  readonly socketDir: string
  /** Done once it has accepted connections for the first time. */
  readonly ready: Deferred.Deferred<void>
}

/** Fails only if the first start does: what ran once is started again for as long as it takes. */
const keepRunning = (running: Running): Effect.Effect<never, EmbeddedPostgresFailed> => {
  const untilItDies = Effect.scoped(Effect.gen(function*() {
    const server = yield* launch(running)
    yield* Deferred.succeed(running.ready, undefined)
    const end = yield* Deferred.await(server.exited)
    yield* Effect.logError(`the embedded database ended by itself (${end}); starting it again`)
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

/** Until the scope ends; fails if it ends before it has accepted connections. */
const launch = Effect.fnUntraced(function*(running: Running) {
  const log = join(running.dataDir, "postgres.log")
  yield* rotate(log)
  const from = yield* sizeOf(log)
  const server = yield* Effect.acquireRelease(
    attempt(() => spawnServer(running, log)),
    ({ pid, exited }) =>
      pid === undefined
        ? Effect.void
        : stop((signal) => Effect.sync(() => tell(pid, signal)), Deferred.await(exited))
  )

  const isReady = Effect.map(
    readPostmaster(running.dataDir),
    (postmaster) => postmaster !== undefined && postmaster.pid === server.pid && postmaster.status === "ready"
  )
  const tooLate = new EmbeddedPostgresFailed({
    reason: `it is not ready yet after a long wait; ${log} says what it does`
  })
  const diedEarly = Effect.flatMap(
    Deferred.await(server.exited),
    (end) =>
      Effect.flatMap(readFrom(log, from), (text) =>
        Effect.fail(
          new EmbeddedPostgresFailed({
            reason: `it ended while starting (${text === "" ? end : complaintIn(text)}); ${log} has more, ` +
              `and if ${clusterIn(running.dataDir)} is damaged, restore a backup`
          })
        ))
  )
  yield* until(isReady).pipe(
    Effect.timeoutOrElse({ duration: running.startTimeout ?? Duration.minutes(2), orElse: () => Effect.fail(tooLate) }),
    Effect.raceFirst(diedEarly)
  )
  return server
})

interface Server {
  /** None if it could not be started at all. */
  readonly pid: number | undefined
  /** How it ended, in words. */
  readonly exited: Deferred.Deferred<string>
}

/** In a session of its own, so that a Ctrl-C at the terminal does not end it before the server has drained. */
const spawnServer = ({ account, binaries, dataDir, socketDir, settings }: Running, log: string): Server => {
  const cluster = clusterIn(dataDir)
  const exited = Deferred.makeUnsafe<string>()
  const file = openSync(log, "a", 0o600)
  try {
    const child = spawn(binaries.postgres, [
      "-D",
      pathFor(cluster, account),
      "-k",
      socketDir === cluster ? "." : socketDir,
      ...Object.entries({ ...fixedSettings, ...settings }).flatMap(([name, value]) => ["-c", `${name}=${value}`])
    ], { ...account, cwd: cluster, env: childEnvironment, stdio: ["ignore", file, file], detached: true })
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

/** On the command line, so that they hold whatever the configuration files in the cluster say. */
const fixedSettings = {
  listen_addresses: "",
  unix_socket_permissions: "0700",
  fsync: "on",
  shared_buffers: "64MB",
  max_wal_size: "256MB",
  // Parallel queries need more shared memory than a container is given by default, and ours are small.
  max_parallel_workers_per_gather: "0",
  timezone: "UTC",
  log_timezone: "UTC",
  log_destination: "stderr",
  logging_collector: "off",
  log_checkpoints: "off",
  // A refused statement's DETAIL quotes its row: hashes of keys, and what is encrypted.
  log_error_verbosity: "terse"
}

/** The longest path of a socket is 103 bytes on macOS and 107 on Linux. */
const longestSocketPath = 100

/** PostgreSQL's name for it at its default port. */
const socketName = ".s.PGSQL.5432"

const temporaryPrefix = "control-socket-"

/** In the cluster, or, where that path is too long for a socket, in a private temporary directory. */
const socketDirectory = Effect.fnUntraced(function*(dataDir: string, { uid, gid }: Account) {
  const cluster = clusterIn(dataDir)
  if (Buffer.byteLength(join(cluster, socketName)) <= longestSocketPath) return cluster
  return yield* Effect.acquireRelease(
    attempt(async () => {
      const directory = await mkdtemp(join(tmpdir(), temporaryPrefix))
      if (uid !== undefined && gid !== undefined) await chown(directory, uid, gid)
      return directory
    }),
    removeTemporary
  )
})

const removeTemporary = (directory: string): Effect.Effect<void> =>
  Effect.ignore(attempt(() => rm(directory, { recursive: true, force: true })))

/**
 * Stops what a process that was killed has left running, and removes its traces. They must go: PostgreSQL would take any
 * process that has since been given the old one's id for itself, as happens in a container that starts again.
 */
const stopLeftovers = Effect.fnUntraced(function*(dataDir: string) {
  const running = processesIn(clusterIn(dataDir), ["postgres"])
  const postmaster = yield* readPostmaster(dataDir)
  const found = yield* running
  if (found.length > 0) {
    yield* Effect.logWarning(`stopping a PostgreSQL that an earlier run has left on ${clusterIn(dataDir)}`)
    // The postmaster takes the others with it; where it is gone, each one of them must be asked.
    const send = (signal: NodeJS.Signals) =>
      Effect.map(running, (pids) => {
        const first = pids.filter((pid) => pid === postmaster?.pid)
        for (const pid of first.length > 0 ? first : pids) tell(pid, signal)
      })
    yield* stop(send, until(Effect.map(running, (pids) => pids.length === 0)))
    if ((yield* running).length > 0) {
      return yield* new EmbeddedPostgresFailed({ reason: `processes ${found.join(", ")} of an earlier run do not end` })
    }
  }
  if (postmaster === undefined) return
  const { socketDir } = postmaster
  if (dirname(socketDir) === tmpdir() && socketDir.includes(temporaryPrefix)) yield* removeTemporary(socketDir)
  if (process.platform !== "linux") return
  yield* attempt(() => rm(postmasterFile(dataDir), { force: true }))
  yield* attempt(() => rm(join(clusterIn(dataDir), `${socketName}.lock`), { force: true }))
})

const postmasterFile = (dataDir: string): string => join(clusterIn(dataDir), "postmaster.pid")

/** The lines of postmaster.pid that matter (PostgreSQL's pidfile.h): process id, first socket directory, status. */
const readPostmaster = (dataDir: string) =>
  attempt(() => readFile(postmasterFile(dataDir), "utf8")).pipe(
    Effect.map((text) => {
      const lines = text.split("\n").map((line) => line.trim())
      return { pid: Number(lines[0]), socketDir: lines[4] ?? "", status: lines[7] ?? "" }
    }),
    Effect.orElseSucceed(() => undefined)
  )

const largestLog = 10 * 1024 * 1024

const rotate = Effect.fnUntraced(function*(log: string) {
  if ((yield* sizeOf(log)) > largestLog) yield* attempt(() => rename(log, `${log}.1`))
})

const sizeOf = (path: string): Effect.Effect<number> =>
  Effect.orElseSucceed(attempt(async () => (await stat(path)).size), () => 0)

/** What was appended since the file had that size; of much, the end. */
const readFrom = (path: string, from: number): Effect.Effect<string> =>
  attempt(async () => {
    await using file = await open(path, "r")
    const { size } = await file.stat()
    const { buffer, bytesRead } = await file.read(Buffer.alloc(65_536), 0, 65_536, Math.max(from, size - 65_536))
    return buffer.toString("utf8", 0, bytesRead)
  }).pipe(Effect.orElseSucceed(() => ""))
