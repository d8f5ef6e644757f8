/** The embedded database is private, survives crashes, and cleans up. */
import { assert, describe, it } from "@effect/vitest"
import { startEmbeddedPostgres } from "#store/postgres/EmbeddedPostgres.ts"
import { Deferred, Effect, Exit, Logger, Redacted, Schedule, Scope } from "effect"
import { spawn } from "node:child_process"
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { copyCluster, isAlive, postmasterOf, processesOf, query, queryAt, startPostgres, withSql } from "./clusters.ts"
import { scopedProcess, temporaryDirectory } from "#support/temporaryFiles.ts"

const asRoot = process.getuid?.() === 0
const accountNobody = { uid: 65_534, gid: 65_534 }
const range = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, index) => first + index)
const onLinux = process.platform === "linux"

describe("a new embedded database", () => {
  it.live("the database listens on a socket in the data directory only", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      const { url } = yield* startEmbeddedPostgres({ dataDir, settings: { work_mem: "5MB" } })
      assert.include(Redacted.value(url), encodeURIComponent(join(dataDir, "postgres")))

      const shown = yield* queryAt(
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
      const [[name, user, collate] = []] = yield* queryAt(
        url,
        "select current_database(), current_user, datcollate from pg_database where datname = current_database()"
      )
      assert.deepStrictEqual([name, user, collate], ["control", "control", "C"])
    }))

  it.live("files, socket and log of the database are closed to other accounts", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      yield* startPostgres(dataDir)
      const modeOf = (path: string) => (statSync(path).mode & 0o777).toString(8)
      assert.strictEqual(modeOf(dataDir), "700", "also if PostgreSQL runs under another account than its owner")
      assert.strictEqual(modeOf(join(dataDir, "postgres")), "700")
      assert.strictEqual(modeOf(join(dataDir, "postgres", ".s.PGSQL.5432")), "700")
      assert.strictEqual(modeOf(join(dataDir, "postgres.log")), "600")
      assert.strictEqual(modeOf(join(dataDir, "postgres-password")), "600")
      if (asRoot) assert.include(range(60_578, 61_183), statSync(join(dataDir, "postgres")).uid)
    }))

  // Only Linux shows the environment of a process in /proc.
  it.live.skipIf(!onLinux)(
    "PostgreSQL inherits no environment variable of the server (Linux only, needs /proc)",
    () =>
      Effect.gen(function*() {
        const dataDir = yield* copyCluster
        process.env["CONTROL_TEST_CANARY"] = "canary"
        yield* startPostgres(dataDir)
        delete process.env["CONTROL_TEST_CANARY"]
        assert.notInclude(readFileSync(`/proc/${postmasterOf(dataDir)}/environ`, "utf8"), "canary")
      })
  )

  it.live("the socket is in a private temporary directory if the path of the data directory is too long", () =>
    Effect.gen(function*() {
      const dataDir = join(yield* temporaryDirectory, "long".repeat(25))
      mkdirSync(dataDir, { mode: 0o700 })
      const scope = yield* Scope.make()
      const { url } = yield* Scope.provide(startPostgres(dataDir), scope)
      assert.deepStrictEqual(yield* queryAt(url, "select 1"), [[1]])

      const socketDir = new URL(Redacted.value(url)).searchParams.get("host") ?? ""
      assert.isBelow(socketDir.length, 80)
      assert.strictEqual(statSync(socketDir).mode & 0o777, 0o700)
      yield* Scope.close(scope, Exit.void)
      assert.isFalse(existsSync(socketDir))
    }))
})

describe("the next start of the embedded database", () => {
  it.live("all committed rows exist after a restart, and the process of the last run has ended", () =>
    Effect.gen(function*() {
      const dataDir = yield* copyCluster
      const pid = yield* Effect.scoped(Effect.gen(function*() {
        const { url } = yield* startPostgres(dataDir)
        yield* queryAt(url, "create table kept as select 42 as answer")
        return postmasterOf(dataDir)
      }))
      assert.isFalse(isAlive(pid))
      const { url } = yield* startPostgres(dataDir)
      assert.deepStrictEqual(yield* queryAt(url, "select answer from kept"), [[42]])
    }))

  // Only Linux identifies processes by /proc.
  it.live.skipIf(!onLinux)(
    "an unrelated process with the id in postmaster.pid does not prevent the start (Linux only, needs /proc)",
    () =>
      Effect.gen(function*() {
        const dataDir = yield* copyCluster
        const files = join(dataDir, "postgres")
        const stranger = yield* scopedProcess(() =>
          spawn("sleep", ["1000"], { cwd: "/", ...(asRoot ? accountNobody : {}) })
        )
        writeFileSync(join(files, "postmaster.pid"), `${stranger.pid}\n${files}\n1\n5432\n.\n\n1 1\nready\n`)
        writeFileSync(join(files, ".s.PGSQL.5432.lock"), `${stranger.pid}\n${files}\n1\n5432\n`)
        const { url } = yield* startPostgres(dataDir)
        assert.deepStrictEqual(yield* queryAt(url, "select 1"), [[1]])
        assert.isTrue(isAlive(stranger.pid ?? 0))
      })
  )

  it.live("an unfinished cluster is removed, and a complete one is created", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      mkdirSync(join(dataDir, "postgres.new-abc123"))
      writeFileSync(join(dataDir, "postgres.new-abc123", "PG_VERSION"), "18\n")
      const { url } = yield* startPostgres(dataDir)
      assert.deepStrictEqual(yield* queryAt(url, "select 1"), [[1]])
      assert.deepStrictEqual(readdirSync(dataDir).toSorted(), ["postgres", "postgres-password", "postgres.log"])
    }))

  it.live("a log of more than 10 MiB is rotated", () =>
    Effect.gen(function*() {
      const dataDir = yield* copyCluster
      const log = join(dataDir, "postgres.log")
      writeFileSync(log, "")
      truncateSync(log, 11 * 1024 * 1024)
      yield* startPostgres(dataDir)
      assert.isAbove(statSync(`${log}.1`).size, 10 * 1024 * 1024)
      assert.isBelow(statSync(log).size, 100_000)
    }))
})

describe("a running embedded database", () => {
  it.live("a killed PostgreSQL is restarted, and the pool reconnects", () =>
    Effect.gen(function*() {
      const errorLogged = yield* Deferred.make<string>()
      const logger = Logger.make(({ message, logLevel }) => {
        if (logLevel === "Error") Deferred.doneUnsafe(errorLogged, Effect.succeed(String(message)))
      })
      yield* Effect.gen(function*() {
        const dataDir = yield* copyCluster
        const { url } = yield* startPostgres(dataDir)
        yield* withSql(
          url,
          Effect.gen(function*() {
            yield* query("create table kept as select 42 as answer")
            const before = postmasterOf(dataDir)
            process.kill(before, "SIGKILL")
            assert.include(yield* Deferred.await(errorLogged), "SIGKILL")
            // A backend of the killed postmaster can still answer for a moment, so wait for the new postmaster first.
            yield* Effect.repeat(
              Effect.sync(() =>
                existsSync(join(dataDir, "postgres", "postmaster.pid")) ? postmasterOf(dataDir) : before
              ),
              { until: (pid) => pid !== before && pid > 0, schedule: Schedule.spaced("20 millis") }
            )
            const rows = yield* Effect.retry(query("select answer from kept"), Schedule.spaced("20 millis"))
            assert.deepStrictEqual(rows, [[42]])
            assert.notStrictEqual(postmasterOf(dataDir), before)
          })
        )
      }).pipe(Effect.provide(Logger.layer([logger])))
    }))

  it.live("PostgreSQL ends with its scope although a client is connected, and leaves no process and no pid file", () =>
    Effect.gen(function*() {
      const dataDir = yield* copyCluster
      const scope = yield* Scope.make()
      const { url } = yield* Scope.provide(startPostgres(dataDir), scope)
      yield* withSql(
        url,
        Effect.gen(function*() {
          yield* query("select 1")
          yield* Scope.close(scope, Exit.void)
        })
      )
      assert.deepStrictEqual(yield* processesOf(dataDir), [])
      assert.isFalse(existsSync(join(dataDir, "postgres", "postmaster.pid")))
    }))

  it.effect("the database starts under a test clock that stands still", () =>
    Effect.gen(function*() {
      const dataDir = yield* copyCluster
      yield* Effect.scoped(startPostgres(dataDir))
      assert.isTrue(existsSync(join(dataDir, "postgres", "PG_VERSION")))
    }))
})
