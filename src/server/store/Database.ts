/** Connects to PostgreSQL (`DATABASE_URL`, or else an embedded one) and migrates its schema. */
import { Settings } from "#server/Settings.ts"
import { PgClient } from "@effect/sql-pg"
import { Cause, Duration, Effect, Layer, Option, Schedule, Schema } from "effect"
import { Migrator, SqlClient } from "effect/sql"
import { DataDirectory } from "./DataDirectory.ts"
import { startEmbeddedPostgres } from "./postgres/EmbeddedPostgres.ts"
import { init } from "./migrations/0001_init.ts"
import { history } from "./migrations/0002_history.ts"
import { nodes } from "./migrations/0003_nodes.ts"
import { scopes } from "./migrations/0004_scopes.ts"
import { admins } from "./migrations/0005_admins.ts"
import { rotation } from "./migrations/0006_rotation.ts"
import { acceptance } from "./migrations/0007_acceptance.ts"
import { nodeEvents } from "./migrations/0008_node_events.ts"
import { wireguardKeys } from "./migrations/0010_wireguard_keys.ts"
import { addressChecks } from "./migrations/0011_address_checks.ts"
import { uniqueNames } from "./migrations/0012_unique_names.ts"
import { reportSessions } from "./migrations/0013_report_sessions.ts"
import { ReservedPool, reservedPoolSize } from "./ReservedPool.ts"
import { describeSqlError, StoreUnavailable, withStoreErrors } from "./sql.ts"

/** A newer version of Control has migrated the database. */
export class SchemaTooNew extends Schema.TaggedError<SchemaTooNew>()("SchemaTooNew", {
  found: Schema.Int,
  known: Schema.Int
}) {
  override get message(): string {
    return `the database has schema version ${this.found}, but this version of Control supports at most ${this.known}; run a newer version`
  }
}

/** A migration failed and was rolled back. */
export class MigrationFailed
  extends Schema.TaggedError<MigrationFailed>()("MigrationFailed", { reason: Schema.String })
{
  override get message(): string {
    return `cannot migrate the database schema: ${this.reason}`
  }
}

/** All migrations, in order. Names and SQL never change, because databases record them as applied. */
export const migrations = {
  "0001_init": init,
  "0002_history": history,
  "0003_nodes": nodes,
  "0004_scopes": scopes,
  "0005_admins": admins,
  "0006_rotation": rotation,
  "0007_acceptance": acceptance,
  "0008_node_events": nodeEvents,
  "0010_wireguard_keys": wireguardKeys,
  "0011_address_checks": addressChecks,
  "0012_unique_names": uniqueNames,
  "0013_report_sessions": reportSessions
}
/** The table of applied migrations. */
export const migrationsTable = "control_migrations"

/** The newest schema that this version knows. */
export const schemaVersion = Math.max(...Object.keys(migrations).map((name) => Number.parseInt(name, 10)))

/** Maximum wait for a database that does not answer at startup. */
const startTimeout = Duration.seconds(20)

/**
 * Server-side limits in milliseconds. A writer that stops while it holds the lock of the revision counter would block every
 * other writer, so PostgreSQL ends its transaction.
 */
const sessionTimeouts = {
  lock_timeout: "3000",
  idle_in_transaction_session_timeout: "5000",
  statement_timeout: "10000"
}

/** `SqlClient`, `PgClient` and `ReservedPool` on the database, without a check of its schema. */
export const connectionLayer = Layer.unwrap(Effect.gen(function*() {
  const settings = yield* Settings
  const directory = yield* DataDirectory
  const url = Option.isSome(settings.databaseUrl)
    ? settings.databaseUrl.value
    : (yield* startEmbeddedPostgres({ dataDir: (yield* directory.open).path })).url
  const config = {
    url,
    connectTimeout: "5 seconds",
    keepAlive: "15 seconds",
    applicationName: "control",
    startupParameters: sessionTimeouts
  } as const
  const reserved = Layer.effect(ReservedPool, SqlClient.SqlClient).pipe(
    Layer.provide(Layer.fresh(PgClient.layer({ ...config, maxConnections: reservedPoolSize })))
  )
  return Layer.merge(PgClient.layer({ ...config, maxConnections: 10 }), reserved)
}))

/** Waits up to 20 s for the database, then migrates its schema. Two processes that start at once do not conflict. */
const migrateSchema = Layer.effectDiscard(Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  let last: string | undefined
  yield* withStoreErrors(sql`select 1`).pipe(
    Effect.tapError(({ reason }) => {
      const isFirst = last === undefined
      last = reason
      return isFirst
        ? Effect.logWarning(`waiting up to 20 seconds for the database: ${reason}`)
        : Effect.void
    }),
    Effect.retry(Schedule.spaced("250 millis")),
    Effect.timeoutOrElse({
      duration: startTimeout,
      orElse: () =>
        Effect.fail(
          new StoreUnavailable({ reason: `${last ?? "no answer"} for 20 seconds; check DATABASE_URL` })
        )
    })
  )
  yield* rejectNewerSchema(sql)
  yield* Migrator.make({})({ loader: Migrator.fromRecord(migrations), table: migrationsTable }).pipe(
    Effect.retry({
      times: 20,
      schedule: Schedule.spaced("250 millis"),
      while: (error) => "kind" in error && error.kind === "Locked"
    }),
    Effect.catchTag("MigrationError", (error) => Effect.fail(new MigrationFailed({ reason: reasonOf(error) }))),
    withStoreErrors
  )
}))

/** The reason without any text that can quote rows. */
function reasonOf({ cause, message }: Migrator.MigrationError): string {
  return cause === undefined ? message : `${message}: ${describeSqlError(Cause.fail(cause))}`
}

const rejectNewerSchema = Effect.fnUntraced(function*(sql: SqlClient.SqlClient) {
  const [table] = decodeExists(yield* withStoreErrors(sql`select to_regclass(${migrationsTable}) is not null as there`))
  if (!table.there) return
  const [{ found }] = decodeFound(
    yield* withStoreErrors(sql`select coalesce(max(migration_id), 0)::int as found from ${sql(migrationsTable)}`)
  )
  if (found > schemaVersion) return yield* new SchemaTooNew({ found, known: schemaVersion })
})

const decodeExists = Schema.decodeUnknownSync(Schema.Tuple([Schema.Struct({ there: Schema.Boolean })]))
const decodeFound = Schema.decodeUnknownSync(Schema.Tuple([Schema.Struct({ found: Schema.Int })]))

/** `SqlClient`, `PgClient` and `ReservedPool` on a database with the schema of this version. */
export const layer = migrateSchema.pipe(Layer.provideMerge(connectionLayer))
