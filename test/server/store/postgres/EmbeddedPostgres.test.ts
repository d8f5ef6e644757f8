import { assert, describe, it } from "@effect/vitest"
import { PgClient } from "@effect/sql-pg"
import { startEmbeddedPostgres } from "#store/postgres/EmbeddedPostgres.ts"
import { findProcesses } from "#store/postgres/processes.ts"
import { Deferred, Effect, Exit, Logger, Redacted, Schedule, Scope } from "effect"
import { SqlClient } from "effect/sql"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { cluster, start } from "./clusters.ts"
import { end, temporaryDirectory } from "#support/temporary.ts"

const asRoot = process.getuid?.() === 0
/** Whom PostgreSQL runs as when root starts it. */
const nobody = { uid: 65_534, gid: 65_534 }
const onLinux = process.platform === "linux"

const withSql = <A, E, R>(url: Redacted.Redacted, work: Effect.Effect<A, E, R>) =>
  Effect.provide(work, PgClient.layer({ url, maxConnections: 2 }), { local: true })

const ask = (statement: string) =>
  Effect.map(
    Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(statement)),
    (rows) => rows.map((row) => Object.values(row))
  )

const askOf = (url: Redacted.Redacted, statement: string) => withSql(url, ask(statement))

const postmasterOf = (dataDir: string) =>
  Number(readFileSync(join(dataDir, "postgres", "postmaster.pid"), "utf8").split("\n")[0])

const isAlive = (pid: number) => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

const script = `
  import { Effect } from "effect"
  import { startEmbeddedPostgres } from "#store/postgres/EmbeddedPostgres.ts"
  const dataDir = process.argv[1]
  process.stdin.resume()
  await Effect.runPromise(Effect.scoped(Effect.andThen(
    startEmbeddedPostgres({ dataDir, settings: { fsync: "off" } }),
    Effect.andThen(Effect.sync(() => process.stdout.write("ready\\n")), Effect.never)
  )))
`

describe("a new database", () => {
  it.live("answers over a socket in the data directory, and over nothing else", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      const { url } = yield* startEmbeddedPostgres({ dataDir, settings: { work_mem: "5MB" } })
      assert.include(Redacted.value(url), encodeURIComponent(join(dataDir, "postgres")))

      const shown = yield* askOf(
        url,
        `select name, setting from pg_settings where name in ('listen_addresses', 'fsync', 'server_encoding', 'work_mem',
         'lc_collate', 'TimeZone', 'unix_socket_permissions', 'data_checksums') order by lower(name)`
      )
      assert.deepStrictEqual(shown, [
        ["data_checksums", "on"],
        ["fsync", "on"],
        ["listen_addresses", ""],
        ["server_encoding", "UTF8"],
        ["TimeZone", "UTC"],
        ["unix_socket_permissions", "0700"],
        ["work_mem", "5120"]
      ])
      const [[name, user, collate] = []] = yield* askOf(
        url,
        "select current_database(), current_user, datcollate from pg_database where datname = current_database()"
      )
      assert.deepStrictEqual([name, user, collate], ["control", "control", "C"])
    }))

  it.live("is closed to other accounts, and so is its log", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      yield* start(dataDir)
      const modeOf = (path: string) => (statSync(path).mode & 0o777).toString(8)
      assert.strictEqual(modeOf(dataDir), "700", "also where PostgreSQL runs as another account than its owner")
      assert.strictEqual(modeOf(join(dataDir, "postgres")), "700")
      assert.strictEqual(modeOf(join(dataDir, "postgres", ".s.PGSQL.5432")), "700")
      assert.strictEqual(modeOf(join(dataDir, "postgres.log")), "600")
      if (asRoot) assert.strictEqual(statSync(join(dataDir, "postgres")).uid, nobody.uid)
    }))

  // Elsewhere there is no /proc that shows it.
  it.live.skipIf(!onLinux)(
    "is told nothing of the server's environment (runs only where there is a /proc)",
    () =>
      Effect.gen(function*() {
        const dataDir = yield* cluster
        process.env["CONTROL_TEST_CANARY"] = "canary"
        yield* start(dataDir)
        delete process.env["CONTROL_TEST_CANARY"]
        assert.notInclude(readFileSync(`/proc/${postmasterOf(dataDir)}/environ`, "utf8"), "canary")
      })
  )

  it.live("has its socket in a private temporary directory where the path would be too long for one", () =>
    Effect.gen(function*() {
      const dataDir = join(yield* temporaryDirectory, "long".repeat(25))
      mkdirSync(dataDir, { mode: 0o700 })
      const scope = yield* Scope.make()
      const { url } = yield* Scope.provide(start(dataDir), scope)
      assert.deepStrictEqual(yield* askOf(url, "select 1"), [[1]])

      const socketDir = new URL(Redacted.value(url)).searchParams.get("host") ?? ""
      assert.isBelow(socketDir.length, 80)
      assert.strictEqual(statSync(socketDir).mode & 0o777, 0o700)
      yield* Scope.close(scope, Exit.void)
      assert.isFalse(existsSync(socketDir))
    }))
})

describe("the next start", () => {
  it.live("finds all that was committed, and the process of the last run is gone", () =>
    Effect.gen(function*() {
      const dataDir = yield* cluster
      const pid = yield* Effect.scoped(Effect.gen(function*() {
        const { url } = yield* start(dataDir)
        yield* askOf(url, "create table kept as select 42 as answer")
        return postmasterOf(dataDir)
      }))
      assert.isFalse(isAlive(pid))
      const { url } = yield* start(dataDir)
      assert.deepStrictEqual(yield* askOf(url, "select answer from kept"), [[42]])
    }))

  it.live("stops what a killed server has left running, also while it has a client", () =>
    Effect.gen(function*() {
      const dataDir = join(yield* temporaryDirectory, "long".repeat(25))
      mkdirSync(dataDir, { mode: 0o700 })
      const server = yield* Effect.acquireRelease(
        Effect.sync(() =>
          spawn(process.execPath, ["--input-type=module-typescript", "--eval", script, dataDir], {
            stdio: ["pipe", "pipe", "inherit"]
          })
        ),
        end
      )
      yield* Effect.promise(() => once(server.stdout, "data"))
      yield* end(server)

      const orphan = postmasterOf(dataDir)
      const socketDir = readFileSync(join(dataDir, "postgres", "postmaster.pid"), "utf8").split("\n")[4] ?? ""
      assert.isTrue(isAlive(orphan))
      assert.isTrue(existsSync(socketDir))
      const url = Redacted.make(`postgres://control@localhost/control?host=${encodeURIComponent(socketDir)}`)
      yield* withSql(
        url,
        Effect.gen(function*() {
          yield* ask("create table kept as select 42 as answer")
          const next = yield* start(dataDir)
          assert.notInclude(yield* findProcesses(join(dataDir, "postgres"), ["postgres"]), orphan)
          assert.isFalse(existsSync(socketDir))
          assert.notStrictEqual(postmasterOf(dataDir), orphan)
          assert.deepStrictEqual(yield* askOf(next.url, "select answer from kept"), [[42]])
        })
      )
    }), 60_000)

  // Only Linux has a /proc to tell by.
  it.live.skipIf(!onLinux)(
    "is not held up by a process that was given the old one's id (needs /proc to tell)",
    () =>
      Effect.gen(function*() {
        const dataDir = yield* cluster
        const files = join(dataDir, "postgres")
        const stranger = yield* Effect.acquireRelease(
          Effect.sync(() => spawn("sleep", ["1000"], { cwd: "/", ...(asRoot ? nobody : {}) })),
          end
        )
        writeFileSync(join(files, "postmaster.pid"), `${stranger.pid}\n${files}\n1\n5432\n.\n\n1 1\nready\n`)
        writeFileSync(join(files, ".s.PGSQL.5432.lock"), `${stranger.pid}\n${files}\n1\n5432\n`)
        const { url } = yield* start(dataDir)
        assert.deepStrictEqual(yield* askOf(url, "select 1"), [[1]])
        assert.isTrue(isAlive(stranger.pid ?? 0))
      })
  )

  it.live("removes a cluster that was only half made, and makes a whole one", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      mkdirSync(join(dataDir, "postgres.new-abc123"))
      writeFileSync(join(dataDir, "postgres.new-abc123", "PG_VERSION"), "18\n")
      const { url } = yield* start(dataDir)
      assert.deepStrictEqual(yield* askOf(url, "select 1"), [[1]])
      assert.deepStrictEqual(readdirSync(dataDir).toSorted(), ["postgres", "postgres.log"])
    }))

  it.live("puts a log that has grown large aside", () =>
    Effect.gen(function*() {
      const dataDir = yield* cluster
      const log = join(dataDir, "postgres.log")
      writeFileSync(log, "")
      truncateSync(log, 11 * 1024 * 1024)
      yield* start(dataDir)
      assert.isAbove(statSync(`${log}.1`).size, 10 * 1024 * 1024)
      assert.isBelow(statSync(log).size, 100_000)
    }))
})

describe("while it runs", () => {
  it.live("a PostgreSQL that is killed is started again, and the pool finds it", () =>
    Effect.gen(function*() {
      const told = yield* Deferred.make<string>()
      const logger = Logger.make(({ message, logLevel }) => {
        if (logLevel === "Error") Deferred.doneUnsafe(told, Effect.succeed(String(message)))
      })
      yield* Effect.gen(function*() {
        const dataDir = yield* cluster
        const { url } = yield* start(dataDir)
        yield* withSql(
          url,
          Effect.gen(function*() {
            yield* ask("create table kept as select 42 as answer")
            const before = postmasterOf(dataDir)
            process.kill(before, "SIGKILL")
            assert.include(yield* Deferred.await(told), "SIGKILL")
            const rows = yield* Effect.retry(ask("select answer from kept"), Schedule.spaced("20 millis"))
            assert.deepStrictEqual(rows, [[42]])
            assert.notStrictEqual(postmasterOf(dataDir), before)
          })
        )
      }).pipe(Effect.provide(Logger.layer([logger])))
    }))

  it.live("ends with its scope although a client is still connected, and nothing of it stays", () =>
    Effect.gen(function*() {
      const dataDir = yield* cluster
      const scope = yield* Scope.make()
      const { url } = yield* Scope.provide(start(dataDir), scope)
      yield* withSql(
        url,
        Effect.gen(function*() {
          yield* ask("select 1")
          yield* Scope.close(scope, Exit.void)
        })
      )
      assert.deepStrictEqual(yield* findProcesses(join(dataDir, "postgres"), ["postgres"]), [])
      assert.isFalse(existsSync(join(dataDir, "postgres", "postmaster.pid")))
    }))

  it.effect("starts also under a clock that stands still", () =>
    Effect.gen(function*() {
      const dataDir = yield* cluster
      yield* Effect.scoped(start(dataDir))
      assert.isTrue(existsSync(join(dataDir, "postgres", "PG_VERSION")))
    }))
})
