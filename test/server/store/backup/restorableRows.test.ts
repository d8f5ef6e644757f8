/** Every row that a database can hold is restored from its backup: text like ciphertext, and rows older than a check. */
import { assert, describe, it } from "@effect/vitest"
import { PgClient } from "@effect/sql-pg"
import { Effect, Redacted } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { compareSchema } from "#store/schemaDrift.ts"
import { violatedConstraint } from "#store/sql.ts"
import { readRows, restoreBackup, saveBackup, startNetwork } from "./backups.ts"

const likeCiphertext = "v1.aaaaaaaaaaaaaaaa.x"

describe("a backup", () => {
  it.live("text that looks like ciphertext in any column that is not encrypted does not prevent a restore", () =>
    Effect.gen(function*() {
      const { backup, file, server, url } = yield* startNetwork
      yield* Effect.promise(() => server.operator.post("/api/agents", { name: likeCiphertext }))
      yield* Effect.promise(() => server.operator.post("/api/gateways", { name: likeCiphertext }))
      yield* Effect.promise(() => server.operator.post("/api/tokens", { name: likeCiphertext, role: "read" }))
      yield* Effect.flatMap(SqlClient.SqlClient, (sql) => sql`update tunnels set reported_status = ${likeCiphertext}`)
        .pipe(Effect.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 1 })))
      const before = yield* readRows(url)
      yield* saveBackup(file, backup)
      yield* restoreBackup(url, file)
      assert.deepStrictEqual(yield* readRows(url), before)
    }))

  it.live("audit rows that are older than a check of the audit are restored, and the check stays", () =>
    Effect.gen(function*() {
      const { backup, file, url } = yield* startNetwork
      const onDatabase = Effect.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 1 }))
      const insertOlderRow = Effect.flatMap(
        SqlClient.SqlClient,
        (sql) => sql`insert into audit (actor, entity, op, entity_id) values ('', 'Old kind', 'create', 'x')`
      )
      const checks = [
        "audit_actor_is_named check (actor <> '')",
        "audit_entity_is_a_word check (entity ~ '^[a-z][a-z_]{0,31}$')"
      ]
      yield* Effect.flatMap(SqlClient.SqlClient, (sql) =>
        Effect.gen(function*() {
          for (const check of checks) yield* sql.unsafe(`alter table audit drop constraint ${check.split(" ")[0]}`)
          yield* insertOlderRow
          for (const check of checks) yield* sql.unsafe(`alter table audit add constraint ${check} not valid`)
        })).pipe(onDatabase)
      const before = yield* readRows(url)
      yield* saveBackup(file, backup)
      yield* restoreBackup(url, file)
      assert.deepStrictEqual(yield* readRows(url), before)
      const rejected = yield* Effect.flip(onDatabase(insertOlderRow))
      assert.match(
        violatedConstraint(rejected as SqlError.SqlError) ?? "",
        /^audit_(?:actor_is_named|entity_is_a_word)$/u
      )
      assert.deepStrictEqual(yield* onDatabase(compareSchema), [])
    }))
})
