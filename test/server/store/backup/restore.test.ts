/** A restore brings back the rows of the backup, and clients drop everything that the database has lost. */
import { Network } from "#feed/Network.ts"
import { Backup } from "#store/backup/Backup.ts"
import { verifyBackup } from "#store/backup/file.ts"
import { backupTables, excludedTables } from "#store/backup/tables.ts"
import { adminToken, newDatabase, newEmptyDatabase, TestDatabase } from "#support/testDatabase.ts"
import { join, joinV1, type TestClient } from "#support/TestClient.ts"
import { viewFromConfig, ViewReplica } from "#support/ViewReplica.ts"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Option, Redacted, Schedule, Stream } from "effect"
import { SqlClient } from "effect/sql"
import { randomBytes } from "node:crypto"
import { readFile } from "node:fs/promises"
import { join as joinPath } from "node:path"
import { gunzipSync } from "node:zlib"
import { inject } from "vitest"
import { readRows, restoreBackup, saveBackup, startNetwork, startServer } from "./backups.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"

/** Receives messages until the next `config`, and returns its view. */
const nextView = Effect.fnUntraced(function*(client: TestClient) {
  while (true) {
    const message = yield* client.next
    if (message.type === "config") return { view: viewFromConfig(message.data), ...message }
  }
})

describe("a backup", () => {
  for (const lost of [1, 5, 500]) {
    it.live(
      `after the restore of a backup that lacks ${lost} changes, clients of both protocol levels drop the lost tunnels`,
      () =>
        Effect.gen(function*() {
          const { agent, backup, file, gateway, server, url } = yield* startNetwork
          const { catchUp } = Context.get(server.context, Network)
          yield* saveBackup(file, backup)
          const before = yield* readRows(url)
          yield* Effect.forEach(Array.from({ length: lost }), () => server.newTunnel(agent.id), { concurrency: 8 })
          yield* catchUp
          const plain = yield* join(server.wsPort, "gateway", gateway.apiKey)
          const v1 = yield* joinV1(server.wsPort, "agent", agent.apiKey)
          const full = yield* v1.expect("config")
          assert.lengthOf(plain.config.data["tunnels"], 3 + lost)

          const done = yield* restoreBackup(url, file)
          assert.deepStrictEqual(yield* readRows(url), before)
          const received = yield* nextView(v1)
          assert.lengthOf(Object.keys(received.view.tunnels), 3)
          assert.strictEqual(received.timeline, done.timeline)
          assert.isAtLeast(received.revision ?? 0, full.revision ?? 0)
          assert.lengthOf(Object.keys((yield* nextView(plain)).view.tunnels), 3)
          assert.strictEqual((yield* Effect.promise(() => server.operator.get("/readyz"))).status, 200)

          // The new timeline continues, and a client that resumes from the old one gets a snapshot.
          const viewer = new ViewReplica()
          const resumed = yield* joinV1(server.wsPort, "agent", agent.apiKey, {
            resume: { timeline: full.timeline, revision: full.revision }
          })
          viewer.apply(yield* resumed.expect("config"))
          const made = yield* server.newTunnel(agent.id)
          viewer.apply(yield* resumed.expect("tunnel_create"))
          assert.include(Object.keys(viewer.view?.tunnels ?? {}), made.id)
          assert.lengthOf(Object.keys(viewer.view?.tunnels ?? {}), 4)
        }),
      60_000
    )
  }

  it.live("a server starts with all rows on an empty database after a restore", () =>
    Effect.gen(function*() {
      const { agent, backup, file, server, url } = yield* startNetwork
      // More than nine audit ids: sorted as text, their order would differ.
      yield* Effect.forEach(Array.from({ length: 12 }), () => server.newTunnel(agent.id), { concurrency: 4 })
      yield* saveBackup(file, backup)
      const before = yield* readRows(url)
      const other = yield* newDatabase
      yield* Effect.scoped(startServer(other.url))
      yield* restoreBackup(other.url, file, { replace: false })
      assert.deepStrictEqual(yield* readRows(other.url), before)
      const again = yield* startServer(other.url)
      const client = yield* join(again.wsPort, "agent", agent.apiKey)
      assert.lengthOf(client.config.data["tunnels"], 15)
      const { body } = yield* Effect.promise(() => again.operator.get("/api/audit?entityType=network"))
      assert.strictEqual(body.items[0].actor, "restore")
    }))

  it.live("a restore into a database with rows fails without `replace`, and a backup has no presence columns", () =>
    Effect.gen(function*() {
      const { agent, backup, file, server, url } = yield* startNetwork
      yield* join(server.wsPort, "agent", agent.apiKey)
      yield* saveBackup(file, backup)
      const refused = yield* Effect.flip(restoreBackup(url, file, { replace: false }))
      assert.strictEqual(refused._tag, "DatabaseNotEmpty")
      assert.include(refused.message, "1 agents, 1 gateways, 3 tunnels")
      const image = gunzipSync(yield* Effect.promise(() => readFile(file))).toString()
      assert.notInclude(image, "session_id")
      assert.notInclude(image, "\"status\"")
    }))

  it.live("writes succeed after a restore with many audit rows, and after a restore that fails at its end", () =>
    Effect.gen(function*() {
      const { agent, backup, file, server, url } = yield* startNetwork
      yield* Effect.forEach(Array.from({ length: 30 }), () => server.newTunnel(agent.id))
      yield* saveBackup(file, backup)
      const other = yield* newDatabase
      yield* Effect.scoped(startServer(other.url))
      yield* restoreBackup(other.url, file, { replace: false })
      const again = yield* startServer(other.url)
      yield* Effect.forEach([1, 2, 3], (n) => again.newTunnel(agent.id, { domain: `after${n}.example.com` }))

      // The live database is ahead of the backup, and its constraint fails the last statement of a restore.
      yield* Effect.forEach(Array.from({ length: 15 }), () => server.newTunnel(agent.id))
      yield* Effect.flatMap(
        SqlClient.SqlClient,
        (sql) => sql`alter table audit add constraint no_restore check (actor <> 'restore')`
      ).pipe(
        Effect.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 1 }))
      )
      const failed = yield* Effect.flip(restoreBackup(url, file))
      assert.strictEqual(failed._tag, "RestoreFailed")
      yield* Effect.forEach([1, 2, 3], () => server.newTunnel(agent.id))

      // The doctor finds a sequence that was set back by hand, and its remedy repairs the sequence.
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
      assert.strictEqual(`${severity}: ${what}`, "fail: sequences are behind their tables: audit")
      yield* sql.unsafe(remedy)
      assert.strictEqual((yield* numbers).severity, "ok")
      yield* server.newTunnel(agent.id)
    }))

  it.live("a role that owns the database and is no superuser can restore a backup", () =>
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
      const { name, url } = yield* newEmptyDatabase
      yield* asAdmin(`alter database ${name} owner to ${role}`)
      const own = new URL(url)
      own.username = role
      own.password = "secret"
      const server = yield* startServer(own.toString())
      const agent = yield* server.newAgent
      const file = joinPath(yield* temporaryDirectory, "backup")
      yield* saveBackup(file, Context.get(server.context, Backup))
      yield* server.newTunnel(agent.id)
      yield* restoreBackup(own.toString(), file)
      const { body } = yield* Effect.promise(() => server.operator.get("/api/tunnels"))
      assert.deepStrictEqual(body.items, [])
      const doctor = yield* Effect.promise(() => server.operator.get("/api/doctor"))
      const schema = doctor.body.findings.find(({ check }: { check: string }) => check === "schema")
      assert.strictEqual(schema.severity, "ok", schema.what)
    }))

  it.live(
    "a backup that its reader has abandoned blocks neither the next backup nor the database",
    () =>
      Effect.gen(function*() {
        const { backup, file, server, url } = yield* startNetwork
        const asOwner = Effect.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 1 }))
        yield* Effect.flatMap(SqlClient.SqlClient, (sql) =>
          sql.unsafe(`insert into audit (actor, entity, op, entity_id, revision)
          select gen_random_uuid(), 'x', 'create', gen_random_uuid(), 0 from generate_series(1, 20000)`)).pipe(asOwner)
        const first = yield* Stream.runCollect(Stream.take(backup.dump(Option.none()), 1))
        assert.lengthOf(first, 1)
        const response = yield* Effect.promise(() =>
          fetch(`${server.apiUrl}/api/backup`, { headers: { authorization: `Bearer ${adminToken}` } })
        )
        yield* Effect.promise(async () =>
          response.body?.cancel()
        )
        yield* saveBackup(file, backup)
        assert.isAbove((yield* verifyBackup(file)).rows["audit"] ?? 0, 20_000)
        const idle = Effect.flatMap(SqlClient.SqlClient, (sql) =>
          sql`select 1 from pg_stat_activity where datname = current_database() and state = 'idle in transaction'`)
        yield* Effect.repeat(idle, {
          until: (rows) =>
            rows.length === 0
        }).pipe(asOwner)
      }),
    60_000
  )

  it.live("every table is in the list of backup tables or in the list of excluded tables", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const tables = yield* sql<{ name: string }>`select table_name as name from information_schema.tables
        where table_schema = current_schema()`
      const known = [...backupTables.map(({ table }) => table), ...excludedTables]
      assert.deepStrictEqual(tables.map(({ name }) => name).toSorted(), known.toSorted())
    }).pipe(Effect.provide(TestDatabase)))

  it.live("a backup is one snapshot, although rows are written while it is read", () =>
    Effect.gen(function*() {
      const { agent, backup, file, server } = yield* startNetwork
      const writing = yield* Effect.forkScoped(Effect.forever(Effect.suspend(() => server.newTunnel(agent.id))))
      yield* saveBackup(file, backup)
      const { header, rows } = yield* verifyBackup(file)
      assert.isUndefined(writing.pollUnsafe())
      // Every audit row has one revision, so a consistent backup has as many rows as revisions.
      assert.strictEqual(rows["audit"], header.revision)
    }))
})
