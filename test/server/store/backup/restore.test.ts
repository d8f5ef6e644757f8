/** What is restored is what was backed up, and nobody keeps what the database has lost by it. */
import { Network } from "#feed/Network.ts"
import { Backup } from "#store/backup/Backup.ts"
import { verifyBackup } from "#store/backup/file.ts"
import { backupTables, excludedTables } from "#store/backup/tables.ts"
import { adminToken, newDatabase, TestDatabase } from "#support/database.ts"
import { join, joinV1, type TestClient } from "#support/TestClient.ts"
import { fromConfig, Viewer } from "#support/Viewer.ts"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Redacted, Schedule, Stream } from "effect"
import { SqlClient } from "effect/sql"
import { randomBytes } from "node:crypto"
import { readFile } from "node:fs/promises"
import { join as joinPath } from "node:path"
import { gunzipSync } from "node:zlib"
import { inject } from "vitest"
import { network, restored, rowsIn, saved, start } from "./backups.ts"
import { temporaryDirectory } from "#support/temporary.ts"

/** Takes what comes until the next `config`, and gives its view. */
const nextView = Effect.fnUntraced(function*(client: TestClient) {
  while (true) {
    const message = yield* client.next
    if (message.type === "config") return { view: fromConfig(message.data), ...message }
  }
})

describe("a backup", () => {
  for (const lost of [1, 5, 500]) {
    it.live(
      `of ${lost} changes ago: no client of either level keeps what the database has lost`,
      () =>
        Effect.gen(function*() {
          const { agent, backup, file, gateway, server, url } = yield* network
          const { catchUp } = Context.get(server.context, Network)
          yield* saved(file, backup)
          const before = yield* rowsIn(url)
          yield* Effect.forEach(Array.from({ length: lost }), () => server.newTunnel(agent.id), { concurrency: 8 })
          yield* catchUp
          const plain = yield* join(server.wsPort, "gateway", gateway.apiKey)
          const v1 = yield* joinV1(server.wsPort, "agent", agent.apiKey)
          const full = yield* v1.expect("config")
          assert.lengthOf(plain.config.data["tunnels"], 3 + lost)

          const done = yield* restored(url, file)
          assert.deepStrictEqual(yield* rowsIn(url), before)
          const told = yield* nextView(v1)
          assert.lengthOf(Object.keys(told.view.tunnels), 3)
          assert.strictEqual(told.timeline, done.timeline)
          assert.isAtLeast(told.revision ?? 0, full.revision ?? 0)
          assert.lengthOf(Object.keys((yield* nextView(plain)).view.tunnels), 3)
          assert.strictEqual((yield* Effect.promise(() => server.operator.get("/readyz"))).status, 200)

          // The history goes on from there, and who resumes from the one that is gone gets everything.
          const viewer = new Viewer()
          const resumed = yield* joinV1(server.wsPort, "agent", agent.apiKey, {
            resume: { timeline: full.timeline, revision: full.revision }
          })
          viewer.take(yield* resumed.expect("config"))
          const made = yield* server.newTunnel(agent.id)
          viewer.take(yield* resumed.expect("tunnel_create"))
          assert.include(Object.keys(viewer.view?.tunnels ?? {}), made.id)
          assert.lengthOf(Object.keys(viewer.view?.tunnels ?? {}), 4)
        }),
      60_000
    )
  }

  it.live("is restored into an empty database, on which a server starts with all that was there", () =>
    Effect.gen(function*() {
      const { agent, backup, file, server, url } = yield* network
      // So that the audit's numbers have more than one digit: as texts they are in another order.
      yield* Effect.forEach(Array.from({ length: 12 }), () => server.newTunnel(agent.id), { concurrency: 4 })
      yield* saved(file, backup)
      const before = yield* rowsIn(url)
      const other = yield* newDatabase
      yield* Effect.scoped(start(other.url))
      yield* restored(other.url, file, false)
      assert.deepStrictEqual(yield* rowsIn(other.url), before)
      const again = yield* start(other.url)
      const client = yield* join(again.wsPort, "agent", agent.apiKey)
      assert.lengthOf(client.config.data["tunnels"], 15)
      const { body } = yield* Effect.promise(() => again.operator.get("/api/audit?entityType=network"))
      assert.strictEqual(body.items[0].actor, "restore")
    }))

  it.live("replaces what is there only if that is said, and leaves everybody offline", () =>
    Effect.gen(function*() {
      const { agent, backup, file, server, url } = yield* network
      yield* join(server.wsPort, "agent", agent.apiKey)
      yield* saved(file, backup)
      const refused = yield* Effect.flip(restored(url, file, false))
      assert.strictEqual(refused._tag, "DatabaseNotEmpty")
      assert.include(refused.message, "1 agents, 1 gateways, 3 tunnels")
      const image = gunzipSync(yield* Effect.promise(() => readFile(file))).toString()
      assert.notInclude(image, "session_id")
      assert.notInclude(image, "\"status\"")
    }))

  it.live("with many numbered rows: writes go on after it, and after a restore that fails at its end", () =>
    Effect.gen(function*() {
      const { agent, backup, file, server, url } = yield* network
      yield* Effect.forEach(Array.from({ length: 30 }), () => server.newTunnel(agent.id))
      yield* saved(file, backup)
      const other = yield* newDatabase
      yield* Effect.scoped(start(other.url))
      yield* restored(other.url, file, false)
      const again = yield* start(other.url)
      yield* Effect.forEach([1, 2, 3], (n) => again.newTunnel(agent.id, { domain: `after${n}.example.com` }))

      // The live one is further than the backup by now, and refuses what a restore does last.
      yield* Effect.forEach(Array.from({ length: 15 }), () => server.newTunnel(agent.id))
      yield* Effect.flatMap(
        SqlClient.SqlClient,
        (sql) => sql`alter table audit add constraint no_restore check (actor <> 'restore')`
      ).pipe(
        Effect.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 1 }))
      )
      const failed = yield* Effect.flip(restored(url, file))
      assert.strictEqual(failed._tag, "RestoreFailed")
      yield* Effect.forEach([1, 2, 3], () => server.newTunnel(agent.id))

      // A `setval` by hand is found, and the doctor's own words put it right.
      let last = ""
      const numbers = Effect.promise(() => server.operator.get("/api/doctor")).pipe(
        Effect.repeat({ until: ({ body }) => body.at !== last, schedule: Schedule.spaced("50 millis") }),
        Effect.map(({ body }) => {
          last = body.at
          return body.findings.find(({ check }: { check: string }) => check === "numbers")
        })
      )
      const sql = Context.get(server.context, SqlClient.SqlClient)
      assert.strictEqual((yield* numbers).severity, "ok")
      yield* sql`select setval(pg_get_serial_sequence('audit', 'id'), 1)`
      const { remedy, severity, what } = yield* numbers
      assert.strictEqual(`${severity}: ${what}`, "fail: the next number is one that a row has: audit")
      yield* sql.unsafe(remedy)
      assert.strictEqual((yield* numbers).severity, "ok")
      yield* server.newTunnel(agent.id)
    }))

  it.live("is restored by a role that is no superuser, and owns the database", () =>
    Effect.gen(function*() {
      const role = `control_test_${randomBytes(6).toString("hex")}`
      const asAdmin = (...statements: ReadonlyArray<string>) =>
        Effect.flatMap(SqlClient.SqlClient, (sql) =>
          Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true })).pipe(
            Effect.provide(PgClient.layer({ url: Redacted.make(inject("serverUrl")), maxConnections: 1 })),
            Effect.scoped,
            Effect.orDie
          )
      yield* Effect.acquireRelease(
        asAdmin(`create role ${role} login password 'secret'`),
        () =>
          asAdmin(`drop role ${role}`)
      )
      const { name, url } = yield* newDatabase
      yield* asAdmin(`alter database ${name} owner to ${role}`)
      const own = new URL(url)
      own.username = role
      own.password = "secret"
      const server = yield* start(own.toString())
      const agent = yield* server.newAgent
      const file = joinPath(yield* temporaryDirectory, "backup")
      yield* saved(file, Context.get(server.context, Backup))
      yield* server.newTunnel(agent.id)
      yield* restored(own.toString(), file)
      const { body } = yield* Effect.promise(() => server.operator.get("/api/tunnels"))
      assert.deepStrictEqual(body.items, [])
      const doctor = yield* Effect.promise(() => server.operator.get("/api/doctor"))
      const schema = doctor.body.findings.find(({ check }: { check: string }) => check === "schema")
      assert.strictEqual(schema.severity, "ok", schema.what)
    }))

  it.live("that nobody wants any more holds up neither the next one nor the database", () =>
    Effect.gen(function*() {
      const { backup, file, server, url } = yield* network
      const asOwner = Effect.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 1 }))
      yield* Effect.flatMap(SqlClient.SqlClient, (sql) =>
        sql.unsafe(`insert into audit (actor, entity, op, entity_id, revision)
          select gen_random_uuid(), 'x', 'create', gen_random_uuid(), 0 from generate_series(1, 20000)`)).pipe(asOwner)
      const first = yield* Stream.runCollect(Stream.take(backup.dump, 1))
      assert.lengthOf(first, 1)
      const response = yield* Effect.promise(() =>
        fetch(`${server.apiUrl}/api/backup`, { headers: { authorization: `Bearer ${adminToken}` } })
      )
      yield* Effect.promise(async () =>
        response.body?.cancel()
      )
      yield* saved(file, backup)
      assert.isAbove((yield* verifyBackup(file)).rows["audit"] ?? 0, 20_000)
      const idle = Effect.flatMap(SqlClient.SqlClient, (sql) =>
        sql`select 1 from pg_stat_activity where datname = current_database() and state = 'idle in transaction'`)
      yield* Effect.repeat(idle, {
        until: (rows) =>
          rows.length === 0
      }).pipe(asOwner)
    }), 60_000)

  it.live("holds every table, or says why not", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const tables = yield* sql<{ name: string }>`select table_name as name from information_schema.tables
        where table_schema = current_schema()`
      const known = [...backupTables.map(({ table }) => table), ...excludedTables]
      assert.deepStrictEqual(tables.map(({ name }) => name).toSorted(), known.toSorted())
    }).pipe(Effect.provide(TestDatabase)))

  it.live("is of one moment although rows come and go while it is read", () =>
    Effect.gen(function*() {
      const { agent, backup, file, server } = yield* network
      const writing = yield* Effect.forkScoped(Effect.forever(Effect.suspend(() => server.newTunnel(agent.id))))
      yield* saved(file, backup)
      const { header, rows } = yield* verifyBackup(file)
      assert.isUndefined(writing.pollUnsafe())
      // Each change of the audit is one revision: as many rows as the counter says.
      assert.strictEqual(rows["audit"], header.revision)
    }))
})
