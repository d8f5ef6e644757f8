/** A migrated template database, which is created once per test run and copied for each test database. */
import * as Database from "#store/Database.ts"
import { PgClient } from "@effect/sql-pg"
import { Effect, Redacted } from "effect"
import { Migrator, SqlClient } from "effect/sql"
import { randomBytes } from "node:crypto"

/**
 * Creates the template on the PostgreSQL server and returns its name. Runs once, before any test file, so that no two creations
 * compete. The template accepts no connections, because PostgreSQL cannot copy a database that is in use.
 */
export const createTemplate = Effect.fnUntraced(function*(serverUrl: string) {
  const name = `control_template_${randomBytes(6).toString("hex")}`
  yield* execute(serverUrl, `create database ${name}`)
  yield* migrate(databaseUrl(serverUrl, name))
  yield* execute(serverUrl, `alter database ${name} with is_template true allow_connections false`)
  return name
})

/** Drops the template at the end of the run. */
export const dropTemplate = Effect.fnUntraced(function*(serverUrl: string, name: string) {
  yield* execute(serverUrl, `alter database ${name} with is_template false`)
  yield* execute(serverUrl, `drop database ${name} with (force)`)
})

/**
 * Copies the template. Copies may run in parallel. Each copy gets its own timeline, because a real database that
 * migrates itself has its own, and Control compares timelines to detect a restored database.
 */
export const copyTemplate = Effect.fnUntraced(function*(serverUrl: string, template: string, name: string) {
  yield* execute(serverUrl, `create database ${name} template ${template}`)
  yield* execute(
    databaseUrl(serverUrl, name),
    "update control_meta set timeline = gen_random_uuid()::text"
  )
})

/** Runs one statement on its own connection. */
export const execute = (url: string, statement: string) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) => sql.unsafe(statement)).pipe(
    Effect.provide(connection(url)),
    Effect.scoped
  )

/** The URL of another database on the same server. */
export const databaseUrl = (serverUrl: string, name: string): string => {
  const url = new URL(serverUrl)
  url.pathname = `/${name}`
  return url.toString()
}

const migrate = (url: string) =>
  Migrator.make({})({ loader: Migrator.fromRecord(Database.migrations), table: Database.migrationsTable }).pipe(
    Effect.provide(connection(url)),
    Effect.scoped
  )

const connection = (url: string) => PgClient.layer({ url: Redacted.make(url), maxConnections: 1 })
