/** Runs initdb and `postgres --single`, also for a user id without an entry in /etc/passwd. */
import { Effect } from "effect"
import { chmod, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { attemptIO, EmbeddedPostgresFailed } from "./EmbeddedPostgresFailed.ts"
import type { Binaries } from "./binaries.ts"
import { type Account, runProgram } from "./processes.ts"

export interface DatabaseProgramOptions {
  readonly account: Account
  /** The cluster. */
  readonly cwd: string
  /** A directory for temporary files of this process. */
  readonly scratch: string
  readonly input?: string
}

/**
 * Both programs look up the name of their user, although Control passes every name, and end without one. The server itself does
 * not. Containers run under ids without a name (`runAsUser` of Kubernetes, OpenShift), and so does a PostgreSQL that root has
 * started. Then copies run that skip this lookup.
 */
export const runDatabaseProgram = Effect.fnUntraced(
  function*(binaries: Binaries, name: "initdb" | "postgres", args: ReadonlyArray<string>, at: DatabaseProgramOptions) {
    const result = yield* runProgram(binaries[name], args, at)
    if (!/could not look up effective user ID/u.test(result.output)) return result
    const copies = yield* copyWithoutLookup(binaries, at)
    return yield* runProgram(copies[name], args, at)
  },
  Effect.scoped
)

/** Prefix of the names of temporary directories. An unfinished one is removed at the next start. */
export const scratchPrefix = "postgres.new-"

/**
 * Copies of both programs that import the C function `getpwent` in place of `getpwuid`. It returns the first entry of
 * /etc/passwd whatever the user id, and both names have eight letters, so that nothing else in the file changes.
 */
const copyWithoutLookup = Effect.fnUntraced(
  function*(binaries: Binaries, { account, scratch }: DatabaseProgramOptions) {
    // Another account cannot enter the data directory.
    const parent = account.uid === undefined ? scratch : tmpdir()
    const directory = yield* Effect.acquireRelease(
      attemptIO(() => mkdtemp(join(parent, scratchPrefix))),
      (path) => Effect.ignore(attemptIO(() => rm(path, { recursive: true, force: true })))
    )
    const native = dirname(dirname(binaries.postgres))
    const copies = { initdb: join(directory, "bin", "initdb"), postgres: join(directory, "bin", "postgres") }
    yield* attemptIO(async () => {
      await chmod(directory, 0o755)
      await mkdir(join(directory, "bin"), { mode: 0o755 })
      // The programs find these by their own path.
      await Promise.all(["lib", "share"].map((name) => symlink(join(native, name), join(directory, name))))
    })
    for (const name of ["initdb", "postgres"] as const) {
      const program = yield* attemptIO(() => readFile(binaries[name]))
      const position = program.indexOf(`\0${lookup}\0`)
      if (position < 0 || process.platform !== "linux") {
        return yield* new EmbeddedPostgresFailed({
          reason: `user id ${account.uid ?? process.getuid?.()} has no name, and PostgreSQL needs one; ` +
            "add an entry for the id to /etc/passwd, or set DATABASE_URL to a PostgreSQL 15 or newer"
        })
      }
      program.write(firstEntry, position + 1, "latin1")
      yield* attemptIO(async () => {
        await writeFile(copies[name], program, { mode: 0o755 })
        // The umask can have removed the permissions of other accounts.
        await chmod(copies[name], 0o755)
      })
    }
    yield* attemptIO(() => chmod(join(directory, "bin"), 0o755))
    return copies
  }
)

const lookup = "getpwuid"
const firstEntry = "getpwent"
