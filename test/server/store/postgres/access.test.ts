/** Only a caller with the password reaches the embedded database, and it runs under any user id. */
import { assert, describe, it } from "@effect/vitest"
import { PgClient } from "@effect/sql-pg"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { Effect, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { chownSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { chown, readdir } from "node:fs/promises"
import { join } from "node:path"
import { copyCluster, startPostgres } from "./clusters.ts"

const asRoot = process.getuid?.() === 0
const unprivileged = 65_534
/** An id without an entry in /etc/passwd. */
const unlisted = 54_321

const queryAt = (url: string, statement: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(statement)).pipe(
    Effect.map((rows) => rows.map((row) => Object.values(row))),
    Effect.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 1 })),
    Effect.scoped
  )

const replacePassword = (url: Redacted.Redacted, password: string) => {
  const changed = new URL(Redacted.value(url))
  changed.password = password
  return changed.toString()
}

describe("the password of the embedded database", () => {
  it.live("a connection without the password or with another one is rejected", () =>
    Effect.gen(function*() {
      const { url } = yield* startPostgres(yield* copyCluster)
      assert.deepStrictEqual(yield* queryAt(Redacted.value(url), "select 1"), [[1]])
      for (const password of ["", "another"]) {
        const exit = yield* Effect.exit(queryAt(replacePassword(url, password), "select 1"))
        assert.strictEqual(exit._tag, "Failure", `password ${JSON.stringify(password)}`)
      }
    }))

  it.live("a cluster of version 0.2.0, which trusted all accounts, keeps its rows and then requires the password", () =>
    Effect.gen(function*() {
      const dataDir = yield* copyCluster
      yield* Effect.scoped(
        Effect.flatMap(
          startPostgres(dataDir),
          ({ url }) => queryAt(Redacted.value(url), "create table kept as select 42 as answer")
        )
      )
      rmSync(join(dataDir, "postgres-password"))
      writeFileSync(join(dataDir, "postgres", "pg_hba.conf"), "local all all trust\n")
      if (asRoot) {
        const files = yield* Effect.promise(() => readdir(join(dataDir, "postgres"), { recursive: true }))
        for (const file of ["", ...files]) chownSync(join(dataDir, "postgres", file), unprivileged, unprivileged)
      }
      const { url } = yield* startPostgres(dataDir)
      assert.deepStrictEqual(yield* queryAt(Redacted.value(url), "select answer from kept"), [[42]])
      assert.notInclude(readFileSync(join(dataDir, "postgres", "pg_hba.conf"), "utf8"), "trust")
      assert.strictEqual((yield* Effect.exit(queryAt(replacePassword(url, ""), "select 1")))._tag, "Failure")
      if (asRoot) assert.notStrictEqual(statSync(join(dataDir, "postgres", "PG_VERSION")).uid, unprivileged)
    }))

  it.live("a lost password file is replaced at the next start", () =>
    Effect.gen(function*() {
      const dataDir = yield* copyCluster
      const before = readFileSync(join(dataDir, "postgres-password"), "utf8")
      rmSync(join(dataDir, "postgres-password"))
      const { url } = yield* startPostgres(dataDir)
      assert.deepStrictEqual(yield* queryAt(Redacted.value(url), "select 1"), [[1]])
      assert.notStrictEqual(readFileSync(join(dataDir, "postgres-password"), "utf8"), before)
    }))
})

// Only root can start a process under another account.
describe.skipIf(!asRoot || process.platform !== "linux")("the account of PostgreSQL (needs root on Linux)", () => {
  it.live("a process of the account `nobody` cannot reach the socket through /proc, past the mode of the data directory", () =>
    Effect.gen(function*() {
      const dataDir = yield* copyCluster
      yield* startPostgres(dataDir)
      const pid = readFileSync(join(dataDir, "postgres", "postmaster.pid"), "utf8").split("\n")[0]
      const script = `require("net").connect("/proc/${pid}/cwd/.s.PGSQL.5432")
        .on("connect", () => { console.log("connected"); process.exit() }).on("error", ({ code }) => console.log(code))`
      const child = spawn(process.execPath, ["--eval", script], { uid: unprivileged, gid: unprivileged, cwd: "/" })
      const [printed] = yield* Effect.promise(() => once(child.stdout, "data"))
      assert.strictEqual(String(printed).trim(), "EACCES")
    }))

  it.live("root starts the database in a data directory of a user id without a name", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      yield* Effect.promise(() => chown(dataDir, unlisted, unlisted))
      const { url } = yield* startPostgres(dataDir)
      assert.deepStrictEqual(yield* queryAt(Redacted.value(url), "select 1"), [[1]])
      assert.strictEqual(statSync(join(dataDir, "postgres")).uid, unlisted)
    }))

  it.live("a process of a user id without a name starts the database", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      yield* Effect.promise(() => chown(dataDir, unlisted, unlisted))
      const script = `
        import { Effect, Redacted } from "effect"
        import { startEmbeddedPostgres } from "#store/postgres/EmbeddedPostgres.ts"
        const started = startEmbeddedPostgres({ dataDir: process.argv[1], settings: { fsync: "off" } })
        await Effect.runPromise(Effect.scoped(Effect.as(started, "started"))).then(console.log, console.log)`
      const child = spawn(process.execPath, ["--input-type=module-typescript", "--eval", script, dataDir], {
        uid: unlisted,
        gid: unlisted
      })
      const [printed] = yield* Effect.promise(() => once(child.stdout, "data"))
      assert.strictEqual(String(printed).trim(), "started")
      assert.strictEqual(statSync(join(dataDir, "postgres")).uid, unlisted)
    }))
})
