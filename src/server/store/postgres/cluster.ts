/** Files of the embedded database: their creation with initdb, and their checks. */
import { syncDirectory } from "#files/writeFileAtomic.ts"
import { Effect } from "effect"
import { chmod, chown, lchown, mkdtemp, readdir, readFile, rename, rm, stat } from "node:fs/promises"
import { join } from "node:path"
import { attemptIO, EmbeddedPostgresFailed } from "./EmbeddedPostgresFailed.ts"
import type { Binaries } from "./binaries.ts"
import { type DatabaseProgramOptions, runDatabaseProgram, scratchPrefix } from "./databaseProgram.ts"
import { type Account, findProcesses, sendSignal, waitUntil } from "./processes.ts"

/** The directory of the cluster below the data directory. */
export const clusterDirectory = (dataDir: string): string => join(dataDir, "postgres")

/**
 * The path of a directory for a PostgreSQL whose working directory it is. A process that root has started there under another
 * account reaches the directory by this link without access to the directories above. So the data directory stays closed to
 * other accounts, and can be below the home of root.
 */
export const clusterPathFor = (directory: string, account: Account): string =>
  account.uid !== undefined && process.platform === "linux" ? "/proc/self/cwd" : directory

/**
 * Creates the cluster if it is missing. Fails without changing anything if the cluster is damaged or of another major
 * version.
 */
export const prepareCluster = Effect.fnUntraced(
  function*(dataDir: string, binaries: Binaries, account: Account, sync: boolean) {
    yield* removeDrafts(dataDir)
    const cluster = clusterDirectory(dataDir)
    const files = yield* attemptIO(() => readdir(cluster)).pipe(
      Effect.catchIf(({ reason }) => reason.startsWith("ENOENT"), () => Effect.succeed<Array<string>>([]))
    )
    if (files.length === 0) return yield* createCluster(dataDir, binaries, account, sync)

    const major = files.includes("PG_VERSION")
      ? (yield* attemptIO(() => readFile(join(cluster, "PG_VERSION"), "utf8"))).trim()
      : ""
    if (!/^[\d.]+$/u.test(major)) {
      return yield* new EmbeddedPostgresFailed({
        reason:
          `${cluster} is damaged (no valid PG_VERSION): restore a backup, or remove the directory to start with an empty database`
      })
    }
    if (major !== binaries.major) {
      return yield* new EmbeddedPostgresFailed({
        reason: `${cluster} was written by PostgreSQL ${major} and this is PostgreSQL ${binaries.major}: ` +
          "make a backup with the version of Control that wrote it, and restore the backup into an empty data directory"
      })
    }
    yield* changeOwner(cluster, account)
    // A restored directory can be accessible to other accounts.
    yield* attemptIO(() => chmod(cluster, 0o700))
  }
)

/** Removes what a killed process has left of an unfinished cluster, and kills programs that still run there. */
const removeDrafts = Effect.fnUntraced(function*(dataDir: string) {
  const names = yield* attemptIO(() => readdir(dataDir))
  for (const draft of names.filter((name) => name.startsWith(scratchPrefix)).map((name) => join(dataDir, name))) {
    yield* waitUntil(Effect.map(findProcesses(draft, ["initdb", "postgres"]), (pids) => {
      for (const pid of pids) sendSignal(pid, "SIGKILL")
      return pids.length === 0
    }))
    yield* attemptIO(() => rm(draft, { recursive: true, force: true }))
  }
})

/**
 * Creates the cluster in a draft directory and renames it when it is complete, so that no partial cluster gets the final
 * name.
 */
const createCluster = (dataDir: string, binaries: Binaries, account: Account, sync: boolean) =>
  Effect.acquireUseRelease(
    attemptIO(() => mkdtemp(join(dataDir, scratchPrefix))),
    Effect.fnUntraced(function*(draft) {
      yield* changeOwner(draft, account)
      const at = { account, cwd: draft, scratch: dataDir }
      const path = clusterPathFor(draft, account)
      // `startEmbeddedPostgres` writes the authentication rules.
      const flags = ["--username=control", "--encoding=UTF8", "--locale=C", "--auth=reject", "--no-instructions"]
      yield* requireSuccess(
        runDatabaseProgram(binaries, "initdb", ["-D", path, ...flags, ...(sync ? [] : ["--no-sync"])], at)
      )
      yield* runStatement(binaries, { ...at, database: "postgres", statement: "CREATE DATABASE control" })
      yield* attemptIO(async () => {
        await rename(draft, clusterDirectory(dataDir))
        await syncDirectory(dataDir)
      })
    }),
    (draft) => Effect.ignore(attemptIO(() => rm(draft, { recursive: true, force: true })))
  )

/** Runs one statement in the cluster `cwd` of a stopped PostgreSQL, past its authentication. */
export const runStatement = (
  binaries: Binaries,
  { database, statement, ...at }: DatabaseProgramOptions & { readonly database: string; readonly statement: string }
) =>
  requireSuccess(
    runDatabaseProgram(
      binaries,
      "postgres",
      ["--single", "-D", clusterPathFor(at.cwd, at.account), "-c", "exit_on_error=on", database],
      { ...at, input: `${statement}\n` }
    )
  )

const requireSuccess = (running: ReturnType<typeof runDatabaseProgram>) =>
  Effect.flatMap(running, ({ code, output }) =>
    code === 0
      ? Effect.void
      : Effect.fail(new EmbeddedPostgresFailed({ reason: `cannot set up the cluster: ${findErrorLine(output)}` })))

/** The first fatal line of PostgreSQL's output, since later errors are its consequences; or else the last line. */
export const findErrorLine = (output: string): string => {
  const lines = output.split("\n").map((line) => line.trim()).filter((line) => line !== "")
  // Excludes the messages for clients that connect before the database is ready.
  const relevantLines = lines.filter((line) => !line.includes("FATAL:  the database system is"))
  const line = relevantLines.find((line) => /\b(?:FATAL|PANIC):/u.test(line)) ??
    relevantLines.find((line) => /\b(?:ERROR|error):/u.test(line)) ??
    lines.at(-1) ?? "no output"
  return line.replace(/^.*?\b(?:FATAL|PANIC|ERROR|error):\s+/u, "")
}

/** Gives files, also those that root has restored, to the account. PostgreSQL opens only its own files. */
const changeOwner = Effect.fnUntraced(function*(directory: string, account: Account) {
  const { uid, gid } = account
  if (uid === undefined || gid === undefined) return
  yield* attemptIO(async () => {
    if ((await stat(directory)).uid === uid) return
    const entries = await readdir(directory, { recursive: true, withFileTypes: true })
    await Promise.all(entries.map((entry) => lchown(join(entry.parentPath, entry.name), uid, gid)))
    // The directory comes last, because its owner shows that all files are done.
    await chown(directory, uid, gid)
  })
})
