/** Migrations complete or change nothing, with connections that die at any statement. */
import * as Database from "#store/Database.ts"
import { compareSchema } from "#store/schemaDrift.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit } from "effect"
import { SqlClient } from "effect/sql"
import { connected, migrate, oldDatabases, readDefinitions } from "./migratedDatabases.ts"

/** Installs a fault that ends the connection at its n-th statement that changes the schema. */
const killAtStatement = (n: number) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.forEach(
      [
        "create schema faults",
        "create sequence faults.statements",
        `create function faults.kill() returns event_trigger language plpgsql as $$ begin
        if nextval('faults.statements') = ${n} then perform pg_terminate_backend(pg_backend_pid()); end if;
      end $$`,
        "create event trigger faults_kill on ddl_command_end execute function faults.kill()"
      ],
      (statement) => sql.unsafe(statement),
      { discard: true }
    ))

/** Removes the fault and returns the number of statements that have changed the schema. */
const removeFault = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.gen(function*() {
    yield* sql.unsafe("drop event trigger faults_kill")
    const [row] = yield* sql.unsafe<{ n: number }>("select last_value::int as n from faults.statements")
    yield* sql.unsafe("drop schema faults cascade")
    return row?.n ?? 0
  }))

/** Sorted, because the order of the catalogs' rows differs between databases. */
const withoutMigrations = (found: ReadonlyMap<string, string>) =>
  [...found].filter(([name]) => !name.includes(Database.migrationsTable))
    .toSorted(([one], [other]) => one < other ? -1 : 1)

describe("the migrations", () => {
  for (const [name, database] of oldDatabases) {
    it.live(
      `a connection that ends at any statement leaves ${name} unchanged, and the next start migrates it`,
      () =>
        Effect.gen(function*() {
          const clean = yield* database
          const before = withoutMigrations(yield* connected(clean.url)(readDefinitions))
          yield* connected(clean.url)(killAtStatement(0))
          assert.isTrue(Exit.isSuccess(yield* migrate(clean.url)))
          const statements = yield* connected(clean.url)(removeFault)
          assert.isAbove(statements, 10)
          const after = yield* connected(clean.url)(readDefinitions)
          // About eight statements, from the first to the last.
          const step = Math.ceil(statements / 8)
          for (let n = 1; n <= statements; n += n + step > statements && n < statements ? statements - n : step) {
            const { url } = yield* database
            yield* connected(url)(killAtStatement(n))
            assert.isTrue(Exit.isFailure(yield* migrate(url)), `the start fails at statement ${n}`)
            yield* connected(url)(removeFault)
            assert.deepStrictEqual(
              withoutMigrations(yield* connected(url)(readDefinitions)),
              before,
              `after statement ${n}`
            )
            assert.isTrue(Exit.isSuccess(yield* migrate(url)))
            assert.deepStrictEqual(yield* connected(url)(readDefinitions), after, `completed after statement ${n}`)
          }
          assert.deepStrictEqual(yield* connected(clean.url)(compareSchema), [])
        }),
      120_000
    )
  }
})
