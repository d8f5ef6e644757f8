/** The schema comes about whole or not at all, whoever starts at once and whatever dies meanwhile. */
import * as Database from "#store/Database.ts"
import { DataDirectory } from "#store/DataDirectory.ts"
import { init } from "#store/migrations/0001_init.ts"
import { history } from "#store/migrations/0002_history.ts"
import { catalog, compareSchema } from "#store/schemaDrift.ts"
import { newDatabase, quiet, testSettings } from "#support/database.ts"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Layer, Option, Redacted } from "effect"
import { Migrator, SqlClient } from "effect/sql"

/** What a process does to the database when it starts. */
const start = (url: string) =>
  Effect.exit(Effect.scoped(Layer.build(
    Database.layer.pipe(
      Layer.provide(DataDirectory.layer),
      Layer.provide(testSettings({ databaseUrl: Option.some(Redacted.make(url)) })),
      Layer.provide(quiet)
    )
  )))

const on = (url: string) => <A, E>(effect: Effect.Effect<A, E, SqlClient.SqlClient>) =>
  Effect.scoped(Effect.provide(effect, PgClient.layer({ url: Redacted.make(url), maxConnections: 1 })))

const there = Effect.flatMap(SqlClient.SqlClient, catalog)

const empty = newDatabase

/** As version 0.2.0 has left it. */
const ofOldVersion = Effect.tap(newDatabase, ({ url }) =>
  on(url)(
    Migrator.make({})({
      loader: Migrator.fromRecord({ "0001_init": init, "0002_history": history }),
      table: Database.migrationsTable
    })
  ))

/** Ends the connection that runs the n-th statement that changes the schema from now on. */
const killAt = (n: number) =>
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

/** Gives back how many statements there were. */
const heal = Effect.flatMap(SqlClient.SqlClient, (sql) =>
  Effect.gen(function*() {
    yield* sql.unsafe("drop event trigger faults_kill")
    const [row] = yield* sql.unsafe<{ n: number }>("select last_value::int as n from faults.statements")
    yield* sql.unsafe("drop schema faults cascade")
    return row?.n ?? 0
  }))

const withoutMigrations = (found: ReadonlyMap<string, string>) =>
  [...found].filter(([name]) => !name.includes(Database.migrationsTable))

describe("the migrations", () => {
  for (const [name, database] of [["an empty database", empty], ["a database of 0.2.0", ofOldVersion]] as const) {
    it.live(`three processes that bring ${name} up to date at once all come up`, () =>
      Effect.gen(function*() {
        const { url } = yield* database
        const ends = yield* Effect.all([start(url), start(url), start(url)], { concurrency: "unbounded" })
        assert.deepStrictEqual(ends.map(Exit.isSuccess), [true, true, true])
        assert.deepStrictEqual(yield* on(url)(compareSchema), [])
      }), 60_000)

    it.live(
      `a connection that ends at any statement leaves ${name} as it was, and the next start completes it`,
      () =>
        Effect.gen(function*() {
          const clean = yield* database
          const before = withoutMigrations(yield* on(clean.url)(there))
          yield* on(clean.url)(killAt(0))
          assert.isTrue(Exit.isSuccess(yield* start(clean.url)))
          const statements = yield* on(clean.url)(heal)
          assert.isAbove(statements, 10)
          const after = yield* on(clean.url)(there)
          // Each of a few, from the first to the last.
          const step = Math.ceil(statements / 8)
          for (let n = 1; n <= statements; n += n + step > statements && n < statements ? statements - n : step) {
            const { url } = yield* database
            yield* on(url)(killAt(n))
            assert.isTrue(Exit.isFailure(yield* start(url)), `statement ${n} was killed`)
            yield* on(url)(heal)
            assert.deepStrictEqual(withoutMigrations(yield* on(url)(there)), before, `after statement ${n}`)
            assert.isTrue(Exit.isSuccess(yield* start(url)))
            assert.deepStrictEqual(yield* on(url)(there), after, `completed after statement ${n}`)
          }
          assert.deepStrictEqual(yield* on(clean.url)(compareSchema), [])
        }),
      120_000
    )
  }
})
