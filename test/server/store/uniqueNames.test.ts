/** Duplicate names of older versions: migrations and restores rename them, and the database rejects new ones. */
import * as Database from "#store/Database.ts"
import { newDatabase, newEmptyDatabase, quiet } from "#support/testDatabase.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { Migrator, SqlClient } from "effect/sql"
import { readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import {
  linesOfBackup,
  restoreBackup,
  saveBackup,
  startNetwork,
  startServer,
  unsignedBackup
} from "./backup/backups.ts"

const connected = (url: string) => <A, E>(effect: Effect.Effect<A, E, SqlClient.SqlClient>) =>
  Effect.scoped(Effect.provide(effect, PgClient.layer({ url: Redacted.make(url), maxConnections: 1 })))

const migrate = (isIncluded: (name: string) => boolean) =>
  Migrator.make({})({
    loader: Migrator.fromRecord(
      Object.fromEntries(Object.entries(Database.migrations).filter(([name]) => isIncluded(name)))
    ),
    table: Database.migrationsTable
  })

/** Inserts agents with these names, oldest first, as a version before the unique index could have. */
const insertAgents = Effect.fnUntraced(function*(names: ReadonlyArray<string>) {
  const sql = yield* SqlClient.SqlClient
  for (const [index, name] of names.entries()) {
    yield* sql`insert into agents
      (id, name, virtual_ip, subnet, subnet_index, wireguard_public_key, wireguard_private_key, created_at)
      values (${`id-${index}`}, ${name}, ${`10.64.${index}.1`}, ${`10.64.${index}.0/24`}, ${index}, ${`key ${index}`}, null,
        timestamptz '2026-01-01' + ${index} * interval '1 day')`
  }
})

const readNames = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) =>
    Effect.map(
      sql<{ name: string }>`select name from agents order by created_at`,
      (rows) => rows.map(({ name }) => name)
    )
)

const long = "x".repeat(128)

describe("unique names", () => {
  it.live("the migration renames all duplicates but the oldest, never to a name in use, and the audit shows it", () =>
    Effect.gen(function*() {
      const { url } = yield* newEmptyDatabase
      yield* connected(url)(Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* migrate((name) => name < "0012")
        yield* insertAgents(["home", "HOME", "Büro", "home-2", "home", "BÜRO", long, long, "only"])
        yield* Effect.provide(migrate(() => true), quiet)
        assert.deepStrictEqual(yield* readNames, [
          "home",
          "HOME-3",
          "Büro",
          "home-2",
          "home-4",
          "BÜRO-2",
          long,
          `${"x".repeat(126)}-2`,
          "only"
        ])
        const audit = yield* sql<{ entity_id: string; name: string }>`
          select entity_id, name, fields from audit where actor = 'control' and op = 'update' order by id`
        assert.deepStrictEqual(audit.map(({ entity_id: id, name }) => [id, name]), [
          ["id-1", "HOME-3"],
          ["id-4", "home-4"],
          ["id-5", "BÜRO-2"],
          ["id-7", `${"x".repeat(126)}-2`]
        ])
        const changes = yield* sql`select from changes where entity = 'agent' and entity_id = 'id-4'`
        assert.lengthOf(changes, 2, "the clients receive the new name")
      }))
    }))

  it.live("a node of an older version cannot store a duplicate in the migrated database", () =>
    Effect.gen(function*() {
      const { url } = yield* newDatabase
      yield* connected(url)(Effect.gen(function*() {
        yield* insertAgents(["home"])
        const sql = yield* SqlClient.SqlClient
        const failure = yield* Effect.flip(
          sql`insert into agents (name, virtual_ip, subnet, subnet_index, wireguard_public_key)
          values ('Home', '10.65.0.1', '10.65.0.0/24', 300, 'another key')`
        )
        assert.include(JSON.stringify(failure.reason.cause), "agents_name_taken")
        assert.deepStrictEqual(yield* readNames, ["home"])
      }))
    }))

  it.live(
    "a restore of an older backup renames its duplicates, and the unique index stays",
    () =>
      Effect.gen(function*() {
        const { agent, backup, file, server, url } = yield* startNetwork
        yield* server.newAgent
        yield* saveBackup(file, backup)
        const { header, rows } = linesOfBackup(yield* Effect.promise(() => readFile(file)))
        const path = join(yield* temporaryDirectory, "older")
        const older = unsignedBackup(
          header.replace(`"schema":${Database.schemaVersion}`, `"schema":8`),
          ...rows.map((row) => row.replace(/"name": ?"agent \d+"/u, `"name": "home"`))
        )
        yield* Effect.promise(() => writeFile(path, older))
        yield* Effect.provide(restoreBackup(url, path, { acceptUnsigned: true }), quiet)
        const { body } = yield* Effect.promise(() => server.operator.get("/api/agents"))
        assert.deepStrictEqual(body.items.map(({ name }: { readonly name: string }) => name), ["home", "home-2"])
        assert.strictEqual(body.items[0].id, agent.id)
        const again = yield* Effect.promise(() => server.operator.post("/api/agents", { name: "HOME-2" }))
        assert.strictEqual(again.status, 409)
        yield* startServer(url)
      }),
    60_000
  )
})
