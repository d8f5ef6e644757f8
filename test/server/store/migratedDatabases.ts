/** Databases of tests of migrations, and starts that migrate them. */
import * as Database from "#store/Database.ts"
import { DataDirectory } from "#store/DataDirectory.ts"
import { init } from "#store/migrations/0001_init.ts"
import { history } from "#store/migrations/0002_history.ts"
import { readCatalog } from "#store/schemaDrift.ts"
import { newEmptyDatabase, quiet, testSettings } from "#support/testDatabase.ts"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Option, Redacted } from "effect"
import { Migrator, SqlClient } from "effect/sql"

/** Migrates the database as a starting process does. */
export const migrate = (url: string) =>
  Effect.exit(Effect.scoped(Layer.build(
    Database.layer.pipe(
      Layer.provide(DataDirectory.layer),
      Layer.provide(testSettings({ databaseUrl: Option.some(Redacted.make(url)) })),
      Layer.provide(quiet)
    )
  )))

export const connected = (url: string) => <A, E>(effect: Effect.Effect<A, E, SqlClient.SqlClient>) =>
  Effect.scoped(Effect.provide(effect, PgClient.layer({ url: Redacted.make(url), maxConnections: 1 })))

export const readDefinitions = Effect.flatMap(SqlClient.SqlClient, readCatalog)

/** A database with the schema of version 0.2.0. */
const databaseOf020 = Effect.tap(newEmptyDatabase, ({ url }) =>
  connected(url)(
    Migrator.make({})({
      loader: Migrator.fromRecord({ "0001_init": init, "0002_history": history }),
      table: Database.migrationsTable
    })
  ))

/** Databases before the migrations, by their names in tests. */
export const oldDatabases = [["an empty database", newEmptyDatabase], ["a database of 0.2.0", databaseOf020]] as const
