/** PostgreSQL stops after its server was killed, and the next start takes over what is left. */
import { assert, describe, it } from "@effect/vitest"
import { waitUntil } from "#store/postgres/processes.ts"
import { Effect, Redacted } from "effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, mkdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { isAlive, postmasterOf, processesOf, query, queryAt, startPostgres, withSql } from "./clusters.ts"
import { killProcess, scopedProcess, temporaryDirectory } from "#support/temporaryFiles.ts"

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

/** Starts a server process with a database whose socket is in a temporary directory. */
const startServer = Effect.gen(function*() {
  const dataDir = join(yield* temporaryDirectory, "long".repeat(25))
  mkdirSync(dataDir, { mode: 0o700 })
  const server = yield* scopedProcess(() =>
    spawn(process.execPath, ["--input-type=module-typescript", "--eval", script, dataDir], {
      stdio: ["pipe", "pipe", "inherit"]
    })
  )
  yield* Effect.promise(() => once(server.stdout, "data"))
  const socketDir = readFileSync(join(dataDir, "postgres", "postmaster.pid"), "utf8").split("\n")[4] ?? ""
  const password = readFileSync(join(dataDir, "postgres-password"), "utf8").trim()
  const url = Redacted.make(`postgres://control:${password}@localhost/control?host=${encodeURIComponent(socketDir)}`)
  return { dataDir, server, socketDir, url }
})

describe("the embedded database of a killed server", () => {
  it.live(
    "PostgreSQL stops by itself when its server is killed, also while it has a client",
    () =>
      Effect.gen(function*() {
        const { dataDir, server, socketDir, url } = yield* startServer
        yield* withSql(
          url,
          Effect.gen(function*() {
            yield* query("create table kept as select 42 as answer")
            yield* killProcess(server)
            yield* waitUntil(Effect.map(processesOf(dataDir), (pids) => pids.length === 0))
          })
        )
        assert.isFalse(existsSync(join(dataDir, "postgres", "postmaster.pid")), "an orderly shutdown")
        const next = yield* startPostgres(dataDir)
        assert.isFalse(existsSync(socketDir))
        assert.deepStrictEqual(yield* queryAt(next.url, "select answer from kept"), [[42]])
      }),
    60_000
  )

  // Only Linux lists the children of a process.
  it.live.skipIf(process.platform !== "linux")(
    "a PostgreSQL that a killed server has left running is stopped, also while it has a client (Linux only, needs /proc)",
    () =>
      Effect.gen(function*() {
        const { dataDir, server, socketDir, url } = yield* startServer
        const orphan = postmasterOf(dataDir)
        const children = readFileSync(`/proc/${server.pid}/task/${server.pid}/children`, "utf8").trim().split(" ")
        for (const pid of children.map(Number)) if (pid !== orphan) process.kill(pid, "SIGKILL")
        yield* killProcess(server)
        assert.isTrue(isAlive(orphan))
        assert.isTrue(existsSync(socketDir))
        yield* withSql(
          url,
          Effect.gen(function*() {
            yield* query("create table kept as select 42 as answer")
            const next = yield* startPostgres(dataDir)
            assert.notInclude(yield* processesOf(dataDir), orphan)
            assert.isFalse(existsSync(socketDir))
            assert.notStrictEqual(postmasterOf(dataDir), orphan)
            assert.deepStrictEqual(yield* queryAt(next.url, "select answer from kept"), [[42]])
          })
        )
      }),
    60_000
  )
})
