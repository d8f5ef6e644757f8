/** The database rejects invalid addresses from SQL, and an upgrade keeps the rows that have one. */
import * as Database from "#store/Database.ts"
import { Backup } from "#store/backup/Backup.ts"
import { violatedConstraint } from "#store/sql.ts"
import { newDatabase, newEmptyDatabase } from "#support/testDatabase.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { joinV1 } from "#support/TestClient.ts"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Record, Redacted } from "effect"
import { Migrator, SqlClient } from "effect/sql"
import { join } from "node:path"
import { readRows, restoreBackup, saveBackup, startServer } from "./backup/backups.ts"

const connected = (url: string) => <A, E>(effect: Effect.Effect<A, E, SqlClient.SqlClient>) =>
  Effect.scoped(Effect.provide(effect, PgClient.layer({ url: Redacted.make(url), maxConnections: 1 })))

const run = (...statements: ReadonlyArray<string>) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true })
  )

const rows = [
  `insert into agents (id, name, virtual_ip, subnet, subnet_index, wireguard_public_key) values
    ('a', 'a', '10.64.0.1', '10.64.0.0/24', 0, 'a')`,
  `insert into gateways (id, name, slot, public_ip, wireguard_public_key) values ('g', 'g', 0, '203.0.113.7', 'g')`,
  `insert into tunnels (id, agent_id, domain, target) values ('t', 'a', 't.example.com', 'localhost:80')`
]

describe("the addresses of a database", () => {
  it.live("SQL cannot store an invalid address, and the error names the column and what is allowed", () =>
    Effect.gen(function*() {
      const { url } = yield* newDatabase
      yield* connected(url)(Effect.gen(function*() {
        yield* run(...rows)
        const cases = [
          ["tunnels_target_valid", "update tunnels set target = '999.1.1.1:80'"],
          [
            "tunnels_target_valid",
            "insert into tunnels (agent_id, domain, target) values ('a', 'u.example.com', 'x:0')"
          ],
          ["tunnels_domain_valid", "update tunnels set domain = '10.0.0.256'"],
          [
            "certificates_domain_valid",
            `insert into certificates (domain, certificate, private_key, expires_at)
            values ('a_b.example.com', '', '', now())`
          ],
          ["gateways_public_ip_valid", "update gateways set public_ip = '10.0.0.256'"],
          ["gateways_public_ip_valid", "update gateways set public_ip = ''"],
          ["agents_virtual_ip_valid", "update agents set virtual_ip = '10.64.1'"],
          ["agents_subnet_valid", "update agents set subnet = '10.64.0.0/33'"]
        ] as const
        for (const [constraint, statement] of cases) {
          const error = yield* Effect.flip(run(statement))
          assert.strictEqual(violatedConstraint(error), constraint, statement)
          assert.match(
            String((error.reason.cause as Error).message),
            /^(?:agents|certificates|gateways|tunnels)\.\w+ is '.*', but must be /u
          )
        }
        yield* run(
          "update gateways set public_ip = null",
          "update gateways set public_ip = '2001:db8::7'",
          "update tunnels set target = 'http://[::1]:80'"
        )
      }))
    }))

  it.live("an upgrade keeps invalid rows: they are unreadable, the doctor names them, and their clients stay online", () =>
    Effect.gen(function*() {
      const { url } = yield* newEmptyDatabase
      const older = Record.filter(Database.migrations, (_, name) => name < "0010")
      yield* connected(url)(Effect.gen(function*() {
        yield* Migrator.make({})({ loader: Migrator.fromRecord(older), table: Database.migrationsTable })
        yield* run(
          ...rows,
          `update gateways set public_ip = '10.0.0.256'`,
          `insert into tunnels (id, agent_id, domain, target) values ('bad', 'a', 'bad.example.com', '999.1.1.1:80')`
        )
      }))
      const server = yield* startServer(url)
      const doctor = yield* Effect.promise(() => server.operator.get("/api/doctor"))
      const found = doctor.body.findings.find(({ check }: { check: string }) => check === "rows")
      assert.strictEqual(found.severity, "fail")
      assert.include(found.what, "cannot read tunnel bad: this version does not understand target")
      assert.include(found.what, "cannot read gateway g: this version does not understand public_ip")
      const keys = yield* Effect.promise(() =>
        Promise.all(["agents/a", "gateways/g"].map((path) => server.operator.post(`/api/${path}/keys`, {})))
      )
      const agent = yield* joinV1(server.wsPort, "agent", keys[0]?.body.apiKey)
      const { tunnels } = (yield* agent.expect("config")).data
      assert.deepStrictEqual((tunnels as ReadonlyArray<{ id: string }>).map(({ id }) => id), ["t"])
      // Presence writes of the row of an invalid gateway succeed.
      yield* connected(url)(
        run("update gateways set status = 'offline'", "update tunnels set enabled = false where id = 'bad'")
      )

      // A backup restores the invalid rows, too.
      const file = join(yield* temporaryDirectory, "backup")
      yield* saveBackup(file, Context.get(server.context, Backup))
      const before = yield* readRows(url)
      yield* restoreBackup(url, file)
      assert.deepStrictEqual(yield* readRows(url), before)
      yield* agent.expect("config")

      // Changing the invalid value by the API repairs the row.
      const repaired = yield* Effect.promise(() =>
        server.operator.patch("/api/tunnels/bad", { target: "localhost:81", enabled: true })
      )
      assert.strictEqual(repaired.status, 200)
      assert.strictEqual((yield* agent.expect("tunnel_create")).data["id"], "bad")
    }))
})
