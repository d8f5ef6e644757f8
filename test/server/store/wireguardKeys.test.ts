/** The database keeps each WireGuard public key with one client, for every writer. */
import { generateWireguardKeyPair } from "#crypto/wireguardKeys.ts"
import * as Database from "#store/Database.ts"
import { newDatabase, newEmptyDatabase } from "#support/testDatabase.ts"
import { joinV1 } from "#support/TestClient.ts"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Record, Redacted } from "effect"
import { Migrator, SqlClient } from "effect/sql"
import { violatedConstraint } from "#store/sql.ts"
import { readRows, restoreBackup, saveBackup, startNetwork, startServer } from "./backup/backups.ts"

const connected = (url: string) => <A, E>(effect: Effect.Effect<A, E, SqlClient.SqlClient>) =>
  Effect.scoped(Effect.provide(effect, PgClient.layer({ url: Redacted.make(url), maxConnections: 4 })))

const newKey = () => generateWireguardKeyPair().publicKey

const insertAgent = (id: string, index: number, publicKey: string) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) =>
      sql`insert into agents (id, name, virtual_ip, subnet, subnet_index, wireguard_public_key) values
      (${id}, ${id}, ${`10.64.${index}.1`}, ${`10.64.${index}.0/24`}, ${index}, ${publicKey})`
  )

const insertGateway = (id: string, slot: number, publicKey: string) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) =>
      sql`insert into gateways (id, name, slot, wireguard_public_key) values (${id}, ${id}, ${slot}, ${publicKey})`
  )

const setKey = (id: string, publicKey: string) =>
  Effect.flatMap(
    SqlClient.SqlClient,
    (sql) => sql`update agents set wireguard_public_key = ${publicKey} where id = ${id}`
  )

const isTaken = <A, R>(effect: Effect.Effect<A, unknown, R>) =>
  Effect.map(Effect.flip(effect), (error) => {
    assert.strictEqual(violatedConstraint(error as Parameters<typeof violatedConstraint>[0]), "wireguard_key_taken")
  })

describe("the WireGuard keys of a database", () => {
  it.live("a second client with a key is rejected at insert and update, until the first gives the key up", () =>
    Effect.gen(function*() {
      const { url } = yield* newDatabase
      yield* connected(url)(Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const [one, other] = [newKey(), newKey()]
        yield* insertAgent("a", 0, one)
        yield* isTaken(insertAgent("b", 1, one))
        yield* isTaken(insertGateway("g", 0, one))
        yield* insertGateway("g", 0, other)
        yield* isTaken(setKey("a", other))
        yield* sql`update agents set name = 'renamed', wireguard_public_key = ${one}`
        yield* sql`update agents set id = 'c' where id = 'a'`
        yield* isTaken(insertAgent("b", 1, one))
        yield* sql`delete from gateways`
        yield* setKey("c", other)
        yield* insertAgent("b", 1, one)
      }))
    }))

  for (const isolation of ["read committed", "repeatable read", "serializable"]) {
    it.live(`of two open transactions (${isolation}) that store one key, one fails`, () =>
      Effect.gen(function*() {
        const { url } = yield* newDatabase
        yield* connected(url)(Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          const key = newKey()
          const store = (insert: Effect.Effect<unknown, unknown, SqlClient.SqlClient>) =>
            Effect.flatMap(SqlClient.SqlClient, (sql) =>
              sql.withTransaction(Effect.gen(function*() {
                yield* sql.unsafe(`set transaction isolation level ${isolation}`)
                yield* sql`select count(*) from agents`
                yield* insert
              })))
          const isWaiting = Effect.flatMap(SqlClient.SqlClient, (sql) =>
            Effect.repeat(
              sql<{ count: number }>`select count(*)::int as count from pg_stat_activity
              where datname = current_database() and wait_event_type = 'Lock'`,
              { until: ([row]) => row?.count === 1 }
            ))
          const second = yield* sql.withTransaction(Effect.gen(function*() {
            yield* insertAgent("a", 0, key)
            const second = yield* Effect.forkDetach(Effect.exit(connected(url)(store(insertGateway("g", 0, key)))))
            yield* connected(url)(isWaiting)
            return second
          }))
          assert.isTrue(Exit.isFailure(yield* Fiber.join(second)))
          assert.deepStrictEqual(yield* sql`select owner from wireguard_keys`, [{ owner: "agent:a" }])
        }))
      }))
  }

  it.live("clients that share a key before the upgrade keep it, and the doctor names them", () =>
    Effect.gen(function*() {
      const { url } = yield* newEmptyDatabase
      const [shared, free] = [newKey(), newKey()]
      const older = Record.filter(Database.migrations, (_, name) => name < "0010")
      yield* connected(url)(Effect.gen(function*() {
        yield* Migrator.make({})({ loader: Migrator.fromRecord(older), table: Database.migrationsTable })
        yield* insertAgent("first", 0, shared)
        yield* insertAgent("second", 1, shared)
        yield* insertGateway("third", 0, shared)
        yield* insertAgent("invalid 1", 2, "no key")
        yield* insertAgent("invalid 2", 3, "no key")
      }))
      const server = yield* startServer(url)
      const { body } = yield* Effect.promise(() => server.operator.get("/api/doctor"))
      const finding = body.findings.find(({ what }: { what: string }) => what.includes("share a WireGuard key"))
      assert.strictEqual(finding.severity, "fail")
      assert.include(finding.what, "agent first (first) and agent second (second) and gateway third (third)")
      const key = yield* Effect.promise(() => server.operator.post("/api/agents/second/keys", {}))
      const client = yield* joinV1(server.wsPort, "agent", key.body.apiKey, { wireguardPublicKey: shared })
      assert.strictEqual((yield* client.expect("config")).data["agent"].wireguardPublicKey, shared)
      yield* connected(url)(Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* isTaken(insertAgent("fourth", 4, shared))
        // The key stays taken while any of the three has it.
        yield* setKey("first", free)
        yield* isTaken(setKey("first", shared))
        yield* sql`delete from gateways`
        yield* isTaken(setKey("first", shared))
        yield* setKey("second", newKey())
        yield* setKey("first", shared)
      }))
    }))

  it.live("a restored database keeps each key with one client", () =>
    Effect.gen(function*() {
      const { agent, backup, file, url } = yield* startNetwork
      yield* saveBackup(file, backup)
      const { url: other } = yield* newDatabase
      yield* Effect.scoped(startServer(other))
      yield* connected(other)(insertAgent("replaced", 200, newKey()))
      yield* restoreBackup(other, file)
      assert.deepStrictEqual(yield* readRows(other), yield* readRows(url))
      yield* connected(other)(Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const [row] = yield* sql<{ key: string }>`select wireguard_public_key as key from agents where id = ${agent.id}`
        yield* isTaken(insertAgent("second", 201, row?.key ?? ""))
        const [{ count } = { count: 0 }] = yield* sql<
          { count: number }
        >`select count(*)::int as count from wireguard_keys`
        assert.strictEqual(count, 2)
      }))
    }))
})
