/** The files of the embedded database: whose they are, how they are first made, and what in them cannot be used. */
import { Effect } from "effect"
import { chmod, chown, lchown, mkdtemp, open, readdir, readFile, rename, rm, stat } from "node:fs/promises"
import { join } from "node:path"
import { attempt, EmbeddedPostgresFailed } from "./EmbeddedPostgresFailed.ts"
import type { Binaries } from "./binaries.ts"
import { type Account, processesIn, run, tell, until } from "./processes.ts"

export const clusterIn = (dataDir: string): string => join(dataDir, "postgres")

/** `nobody`, by number: it needs no entry in /etc/passwd. */
const unprivileged = 65_534

/**
 * Whom PostgreSQL runs as. It refuses root; there it gets the owner of its files, else the owner of the data directory,
 * else `nobody`.
 */
export const accountFor = Effect.fnUntraced(function*(dataDir: string) {
  if (process.getuid?.() !== 0) return {} satisfies Account
  for (const path of [clusterIn(dataDir), dataDir]) {
    const status = yield* Effect.orElseSucceed(attempt(() => stat(path)), () => undefined)
    if (status !== undefined && status.uid !== 0) return { uid: status.uid, gid: status.gid } satisfies Account
  }
  return { uid: unprivileged, gid: unprivileged } satisfies Account
})

/**
 * How to name a directory to a PostgreSQL whose working directory it is. After root has put another account's process there,
 * that one reaches it by this link without a right to enter the directories above: so the data directory stays closed to
 * everybody, and may lie in the home of root.
 */
export const pathFor = (directory: string, account: Account): string =>
  account.uid !== undefined && process.platform === "linux" ? "/proc/self/cwd" : directory

/** Makes sure that there is a cluster which this version can open. One that is damaged or too old is never touched. */
export const prepareCluster = Effect.fnUntraced(
  function*(dataDir: string, binaries: Binaries, account: Account, sync: boolean) {
    yield* removeDrafts(dataDir)
    const cluster = clusterIn(dataDir)
    const files = yield* attempt(() => readdir(cluster)).pipe(
      Effect.catchIf(({ reason }) => reason.startsWith("ENOENT"), () => Effect.succeed<Array<string>>([]))
    )
    if (files.length === 0) return yield* createCluster(dataDir, binaries, account, sync)

    const major = files.includes("PG_VERSION")
      ? (yield* attempt(() => readFile(join(cluster, "PG_VERSION"), "utf8"))).trim()
      : ""
    if (!/^[\d.]+$/u.test(major)) {
      return yield* new EmbeddedPostgresFailed({
        reason:
          `${cluster} is damaged (it has no valid PG_VERSION): restore a backup, or remove it to begin with nothing`
      })
    }
    if (major !== binaries.major) {
      return yield* new EmbeddedPostgresFailed({
        reason: `${cluster} was written by PostgreSQL ${major} and this is PostgreSQL ${binaries.major}: ` +
          "make a backup with the version of Control that wrote it, and restore that into an empty data directory"
      })
    }
    yield* giveTo(cluster, account)
    // A restored directory may have been left open to others, and the database trusts whoever reaches its socket.
    yield* attempt(() => chmod(cluster, 0o700))
  }
)

const draftPrefix = "postgres.new-"

/** What a process that was killed while it made a cluster has left, the programs still at work there included. */
const removeDrafts = Effect.fnUntraced(function*(dataDir: string) {
  const names = yield* attempt(() => readdir(dataDir))
  for (const draft of names.filter((name) => name.startsWith(draftPrefix)).map((name) => join(dataDir, name))) {
    yield* until(Effect.map(processesIn(draft, ["initdb", "postgres"]), (pids) => {
      for (const pid of pids) tell(pid, "SIGKILL")
      return pids.length === 0
    }))
    yield* attempt(() => rm(draft, { recursive: true, force: true }))
  }
})

/** Made beside and renamed when it is complete, so that a half-made cluster never bears the name. */
const createCluster = (dataDir: string, binaries: Binaries, account: Account, sync: boolean) =>
  Effect.acquireUseRelease(
    attempt(() => mkdtemp(join(dataDir, draftPrefix))),
    Effect.fnUntraced(function*(draft) {
      yield* giveTo(draft, account)
      const at = { account, cwd: draft }
      const path = pathFor(draft, account)
      const flags = ["--username=control", "--encoding=UTF8", "--locale=C", "--auth=trust", "--no-instructions"]
      yield* succeeds(run(binaries.initdb, ["-D", path, ...flags, ...(sync ? [] : ["--no-sync"])], at))
      yield* succeeds(
        run(binaries.postgres, ["--single", "-D", path, "-c", "exit_on_error=on", "postgres"], {
          ...at,
          input: "CREATE DATABASE control\n"
        })
      )
      yield* attempt(async () => {
        await rename(draft, clusterIn(dataDir))
        await using parent = await open(dataDir, "r")
        await parent.sync()
      })
    }),
    (draft) => Effect.ignore(attempt(() => rm(draft, { recursive: true, force: true })))
  )

const succeeds = (running: ReturnType<typeof run>) =>
  Effect.flatMap(running, ({ code, output }) =>
    code === 0
      ? Effect.void
      : Effect.fail(new EmbeddedPostgresFailed({ reason: `it could not be created: ${complaintIn(output)}` })))

/** The line of PostgreSQL's output that says best why it ended: the first grave one, since others follow from that. */
export const complaintIn = (output: string): string => {
  const lines = output.split("\n").map((line) => line.trim()).filter((line) => line !== "")
  // What clients are told who come too early.
  const own = lines.filter((line) => !line.includes("FATAL:  the database system is"))
  const line = own.find((line) => /\b(?:FATAL|PANIC):/u.test(line)) ??
    own.find((line) => /\b(?:ERROR|error):/u.test(line)) ??
    lines.at(-1) ?? "it said nothing"
  return line.replace(/^.*?\b(?:FATAL|PANIC|ERROR|error):\s+/u, "")
}

/** Files that root has restored from a backup are given to the account too; PostgreSQL opens none but its own. */
const giveTo = Effect.fnUntraced(function*(directory: string, account: Account) {
  const { uid, gid } = account
  if (uid === undefined || gid === undefined) return
  yield* attempt(async () => {
    if ((await stat(directory)).uid === uid) return
    const entries = await readdir(directory, { recursive: true, withFileTypes: true })
    await Promise.all(entries.map((entry) => lchown(join(entry.parentPath, entry.name), uid, gid)))
    // Last, since it is what says that all is done.
    await chown(directory, uid, gid)
  })
})
