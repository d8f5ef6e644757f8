/** Statements by which rows disappear although no program has deleted them. */
import { PgClient } from "@effect/sql-pg"
import { Effect, Redacted } from "effect"
import { SqlClient } from "effect/sql"

/** Runs SQL statements in one transaction, as the owner of the tables. */
export const runSql = (url: string, ...statements: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* sql.withTransaction(Effect.forEach(statements, (statement) => sql.unsafe(statement)))
  }).pipe(Effect.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 1 })), Effect.scoped)

/** Disables the triggers, as a badly restored backup or manual SQL would. */
export const pastTriggers = "set local session_replication_role = replica"
/** Starts a new timeline. */
export const newTimeline = "update control_meta set timeline = gen_random_uuid()::text"
