/** Ports and protocols of tunnels in the database, for rows that SQL of other applications writes. */
import * as Database from "#store/Database.ts"
import { violatedConstraint } from "#store/sql.ts"
import { newDatabase, newEmptyDatabase, quiet } from "#support/testDatabase.ts"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { Migrator, SqlClient } from "effect/sql"
import { readFile, writeFile } from "node:fs/promises"
import { linesOfBackup, restoreBackup, saveBackup, startNetwork, unsignedBackup } from "./backup/backups.ts"

const connected = (url: string, maxConnections = 1) => <A, E>(effect: Effect.Effect<A, E, SqlClient.SqlClient>) =>
  Effect.scoped(Effect.provide(effect, PgClient.layer({ url: Redacted.make(url), maxConnections })))

const onDatabase = <A, E>(effect: Effect.Effect<A, E, SqlClient.SqlClient>, maxConnections = 1) =>
  Effect.flatMap(newDatabase, ({ url }) => connected(url, maxConnections)(effect)).pipe(Effect.scoped)

const migrate = (isIncluded: (name: string) => boolean) =>
  Migrator.make({})({
    loader: Migrator.fromRecord(
      Object.fromEntries(Object.entries(Database.migrations).filter(([name]) => isIncluded(name)))
    ),
    table: Database.migrationsTable
  }).pipe(Effect.provide(quiet))

const run = (...statements: ReadonlyArray<string>) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true })
  )

const agents = `insert into agents (id, name, virtual_ip, subnet, subnet_index, wireguard_public_key) values
  ('a', 'a', '10.64.0.1', '10.64.0.0/24', 0, 'a'), ('b', 'b', '10.64.1.1', '10.64.1.0/24', 1, 'b')`

/** As an application that knows none of the new columns. */
const insert = (id: string, agent = "a") =>
  `insert into tunnels (id, agent_id, domain, target) values ('${id}', '${agent}', '${id}.example.com', 'localhost:80')`

/** Ports by id of the tunnel. */
const readPorts = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const rows = yield* sql<{ id: string; port: number }>`select id, port from tunnels order by id`
  return Object.fromEntries(rows.map(({ id, port }) => [id, port]))
})

const rejectedBy = (statement: string) => Effect.map(Effect.flip(run(statement)), violatedConstraint)

describe("ports of tunnels", () => {
  it.live("an upgrade gives existing tunnels http and a port within each agent, and changes no revision", () =>
    Effect.gen(function*() {
      const { url } = yield* newEmptyDatabase
      yield* connected(url)(Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* migrate((name) => name < "0017")
        yield* run(agents, insert("t1"), insert("t2"), insert("u1", "b"))
        const before = yield* sql`select id, revision, updated_at from tunnels order by id`
        yield* migrate(() => true)
        assert.deepStrictEqual(yield* readPorts, { t1: 20_000, t2: 20_001, u1: 20_000 })
        assert.deepStrictEqual(yield* sql`select id, revision, updated_at from tunnels order by id`, before)
        assert.deepStrictEqual(
          yield* sql`select distinct protocol, name, listen_port, proxy_protocol, tls from tunnels`,
          [{ protocol: "http", name: null, listen_port: null, proxy_protocol: "none", tls: "verify" }]
        )
        yield* run(insert("t3"))
        assert.strictEqual((yield* readPorts)["t3"], 20_002)
      }))
    }))

  it.live("a port stays with its tunnel, and an agent does not reuse the port for a day", () =>
    onDatabase(Effect.gen(function*() {
      yield* run(agents, insert("t1"), insert("t2"), "update tunnels set target = 'other:1' where id = 't2'")
      assert.deepStrictEqual(yield* readPorts, { t1: 20_000, t2: 20_001 })
      yield* run("delete from tunnels where id = 't2'", insert("t3"))
      assert.deepStrictEqual(yield* readPorts, { t1: 20_000, t3: 20_002 })
      yield* run(
        "update released_tunnel_ports set released_at = now() - interval '25 hours'",
        "update tunnels set port = 29999 where id = 't3'",
        insert("t4")
      )
      assert.deepStrictEqual(yield* readPorts, { t1: 20_000, t3: 29_999, t4: 20_001 })
    })))

  it.live("a tunnel that moves keeps its port if the port is free at the new agent, and otherwise gets another one", () =>
    onDatabase(Effect.gen(function*() {
      yield* run(agents, insert("t1"), insert("t2"), insert("u1", "b"))
      yield* run(
        "update tunnels set agent_id = 'b' where id = 't2'",
        "update tunnels set agent_id = 'b' where id = 't1'"
      )
      assert.deepStrictEqual(yield* readPorts, { t1: 20_002, t2: 20_001, u1: 20_000 })
      // The first agent does not reuse the ports that both tunnels had there.
      yield* run(insert("t3"))
      assert.strictEqual((yield* readPorts)["t3"], 20_002)
      yield* run("update tunnels set agent_id = 'a' where id = 't2'")
      assert.strictEqual((yield* readPorts)["t2"], 20_003, "a port that the tunnel itself has released counts as well")
      // An application that copies a row keeps its port.
      yield* run(insert("t4").replace("target)", "target, port)").replace("'localhost:80')", "'localhost:80', 20000)"))
      assert.strictEqual((yield* readPorts)["t4"], 20_000)
    })))

  it.live(
    "a restore keeps ports, and gives ports to the tunnels of a backup that is older than ports",
    () =>
      Effect.gen(function*() {
        const { backup, file, server, url } = yield* startNetwork
        yield* Effect.promise(async () => {
          const { body } = await server.operator.get("/api/tunnels")
          await server.operator.delete(`/api/tunnels/${body.items[0].id}`)
        })
        const ports = connected(url)(Effect.map(readPorts, (found) => Object.values(found).toSorted()))
        assert.deepStrictEqual(yield* ports, [20_001, 20_002])
        yield* saveBackup(file, backup)
        yield* Effect.provide(restoreBackup(url, file), quiet)
        assert.deepStrictEqual(yield* ports, [20_001, 20_002])
        const { header, rows } = linesOfBackup(yield* Effect.promise(() => readFile(file)))
        const older = unsignedBackup(
          header.replace(`"schema":${Database.schemaVersion}`, `"schema":16`),
          ...rows.map((row) => {
            if (!row.startsWith(`{"table":"tunnels"`) && !row.startsWith(`{"table": "tunnels"`)) return row
            const { row: image, table } = JSON.parse(row)
            const known = ["id", "agent_id", "domain", "target", "enabled", "created_at", "updated_at"]
            return JSON.stringify({ table, row: Object.fromEntries(known.map((column) => [column, image[column]])) })
          })
        )
        yield* Effect.promise(() => writeFile(file, older))
        yield* Effect.provide(restoreBackup(url, file, { acceptUnsigned: true }), quiet)
        assert.deepStrictEqual(yield* ports, [20_000, 20_001])
      }),
    30_000
  )

  it.live("an agent whose 10,000 ports are taken gets no further tunnel, and the other agents do", () =>
    onDatabase(Effect.gen(function*() {
      yield* run(
        agents,
        `insert into released_tunnel_ports (agent_id, port) select 'a', p from generate_series(20000, 29998) as p`,
        insert("t1")
      )
      assert.deepStrictEqual(yield* readPorts, { t1: 29_999 })
      assert.strictEqual(yield* rejectedBy(insert("t2")), "tunnels_ports_exhausted")
      yield* run(insert("u1", "b"))
    })))

  it.live("concurrent transactions get different ports", () =>
    onDatabase(
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* run(agents)
        const ids = Array.from({ length: 24 }, (_, index) => `t${index}`)
        yield* Effect.forEach(ids, (id) => sql.withTransaction(run(insert(id))), { concurrency: 6, discard: true })
        assert.strictEqual(new Set(Object.values(yield* readPorts)).size, 24)
      }),
      6
    ))
})

describe("protocols of tunnels", () => {
  const tcp = (id: string, port: number, more = "") =>
    `insert into tunnels (id, agent_id, name, protocol, listen_port, target ${more === "" ? "" : ", domain"})
      values ('${id}', 'a', '${id}', 'tcp', ${port}, 'localhost:1' ${more === "" ? "" : `, '${more}'`})`

  it.live("SQL cannot store fields that do not fit together", () =>
    onDatabase(Effect.gen(function*() {
      yield* run(agents, insert("t1"), tcp("game", 25_565), tcp("other", 25_566, "t1.example.com"))
      const cases = [
        ["tunnels_shape_valid", "update tunnels set listen_port = 1 where id = 't1'"],
        ["tunnels_shape_valid", "update tunnels set domain = null where id = 't1'"],
        ["tunnels_shape_valid", "update tunnels set name = null where id = 'game'"],
        ["tunnels_shape_valid", "update tunnels set listen_port = null where id = 'game'"],
        ["tunnels_listen_port_allowed", tcp("web", 443)],
        ["tunnels_listen_port_valid", tcp("high", 65_536)],
        ["tunnels_listen_port_taken", tcp("twin", 25_565)],
        ["tunnels_name_taken", tcp("GAME", 1)],
        ["tunnels_proxy_protocol_allowed", "update tunnels set proxy_protocol = 'v2' where id = 't1'"],
        ["tunnels_scheme_allowed", "update tunnels set target = 'http://localhost:1' where id = 'game'"],
        ["tunnels_protocol_valid", "update tunnels set protocol = 'sctp' where id = 'game'"],
        ["tunnels_port_valid", "update tunnels set port = 30000 where id = 'game'"],
        ["tunnels_domain_taken", insert("t1").replace("'t1'", "'t9'")]
      ] as const
      for (const [constraint, statement] of cases) {
        assert.strictEqual(yield* rejectedBy(statement), constraint, statement)
      }
      // UDP has its own ports, and 443 of UDP is free.
      yield* run(
        tcp("voice", 1).replace("'tcp', 1", "'udp', 25565"),
        tcp("quic", 1).replace("'tcp', 1", "'udp', 443")
      )
    })))

  it.live("each of the new columns is a change of the network", () =>
    onDatabase(Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* run(agents, insert("t1"), tcp("game", 25_565))
      const revision = Effect.map(
        sql<{ revision: number }>`select max(revision)::int as revision from changes where entity = 'tunnel'`,
        ([row]) => row?.revision ?? 0
      )
      for (
        const change of [
          "name = 'shop' where id = 't1'",
          "tls = 'insecure' where id = 't1'",
          "protocol = 'tls' where id = 't1'",
          "proxy_protocol = 'v2' where id = 'game'",
          "listen_port = 1 where id = 'game'",
          "port = 25000 where id = 'game'"
        ]
      ) {
        const before = yield* revision
        yield* run(`update tunnels set ${change}`)
        assert.strictEqual(yield* revision, before + 1, change)
      }
      const [last] = yield* sql`select row_image from changes order by revision desc limit 1`
      assert.deepInclude(last?.["row_image"], { port: 25_000, listen_port: 1, proxy_protocol: "v2", name: "game" })
      const audit = yield* sql`select name, fields from audit where op = 'update' order by id desc limit 1`
      assert.deepStrictEqual(audit, [{ name: "game", fields: ["port"] }])
    })))
})
