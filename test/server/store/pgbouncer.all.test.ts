/** The server behind a real pgbouncer with default settings, in both pool modes. Skipped if pgbouncer is not installed. */
import { connectPostgres } from "#store/connectPostgres.ts"
import { startEmbeddedPostgres } from "#store/postgres/EmbeddedPostgres.ts"
import { fastIntervals } from "#support/fastIntervals.ts"
import { scopedProcess, temporaryDirectory } from "#support/temporaryFiles.ts"
import { makeServer } from "#support/TestServer.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Option, Redacted, Schedule } from "effect"
import { spawn } from "node:child_process"
import { chmodSync, chownSync, existsSync, writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { freePort } from "#support/freePort.ts"

const program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"].find(existsSync)
if (program === undefined) process.stdout.write("skipped: pgbouncer is not installed (apt-get install pgbouncer)\n")

/** A PostgreSQL that trusts connections from this machine, because pgbouncer cannot open the socket of an embedded one. */
const startServer = Effect.gen(function*() {
  const dataDir = yield* temporaryDirectory
  const rules = join(yield* temporaryDirectory, "pg_hba.conf")
  writeFileSync(rules, "local all all scram-sha-256\nhost all all 127.0.0.1/32 trust\n")
  chmodSync(dirname(rules), 0o755)
  const port = yield* Effect.promise(() => freePort())
  const settings = { fsync: "off", hba_file: rules, listen_addresses: "127.0.0.1", port: `${port}` }
  yield* startEmbeddedPostgres({ dataDir, settings })
  return port
})

/** Starts pgbouncer in front of the server and returns the URL that leads through it. */
const startPooler = Effect.fnUntraced(function*(serverPort: number, mode: "session" | "transaction") {
  const directory = yield* temporaryDirectory
  const port = yield* Effect.promise(() => freePort())
  const config = join(directory, "pgbouncer.ini")
  const server = `control = host=127.0.0.1 port=${serverPort} dbname=control user=control`
  const listener = `listen_addr = 127.0.0.1\nlisten_port = ${port}\nunix_socket_dir =`
  writeFileSync(config, `[databases]\n${server}\n[pgbouncer]\n${listener}\nauth_type = any\npool_mode = ${mode}\n`)
  // pgbouncer refuses to run as root.
  const account = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {}
  if (account.uid !== undefined) { for (const path of [directory, config]) chownSync(path, account.uid, account.gid) }
  yield* scopedProcess(() => spawn(program ?? "", ["-q", config], { ...account, stdio: "ignore" }))
  const pooled = `postgres://control@127.0.0.1:${port}/control`
  const { pooling } = yield* connectPostgres(pooled, {}, "DATABASE_URL").pipe(
    Effect.retry({ schedule: Schedule.spaced("50 millis"), while: ({ isFinal }) => !isFinal, times: 60 })
  )
  assert.strictEqual(pooling, mode)
  return pooled
})

// Skipped without pgbouncer, because no package of npm has it.
describe.skipIf(program === undefined)("behind pgbouncer", () => {
  for (const mode of ["session", "transaction"] as const) {
    for (const hasListenUrl of mode === "session" ? [false] : [false, true]) {
      it.live(
        `${mode} mode${hasListenUrl ? " with CONTROL_LISTEN_URL" : ""}: writes, logins and readiness work`,
        () =>
          Effect.gen(function*() {
            const serverPort = yield* startServer
            const url = `postgres://control@127.0.0.1:${serverPort}/control`
            const pooled = yield* startPooler(serverPort, mode)
            const { operator } = yield* makeServer({
              databaseUrl: Option.some(Redacted.make(pooled)),
              listenUrl: hasListenUrl ? Option.some(Redacted.make(url)) : Option.none()
            }, fastIntervals)
            assert.strictEqual((yield* Effect.promise(() => operator.get("/readyz"))).status, 200)
            const created = yield* Effect.promise(() =>
              Promise.all(
                Array.from({ length: 30 }, (_, index) => operator.post("/api/agents", { name: `名前 ${index}` }))
              )
            )
            assert.deepStrictEqual([...new Set(created.map(({ status }) => status))], [201])
            for (const { body } of created) {
              const changed = yield* Effect.promise(() =>
                operator.patch(`/api/agents/${body.id}`, { name: `changed ${body.name}` })
              )
              assert.strictEqual(changed.status, 200)
            }
          }).pipe(Effect.scoped),
        60_000
      )
    }
  }
})
