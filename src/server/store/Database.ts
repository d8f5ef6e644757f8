/** The one PostgreSQL: an embedded one in the data directory, or the one that `DATABASE_URL` names. One code path from here on. */
import { Settings } from "#server/Settings.ts"
import { PgClient } from "@effect/sql-pg"
import { Cause, Duration, Effect, Layer, Option, Schedule, Schema } from "effect"
import { Migrator, SqlClient } from "effect/sql"
import { Directory } from "./Directory.ts"
import { startEmbeddedPostgres } from "./postgres/EmbeddedPostgres.ts"
import { init } from "./migrations/0001_init.ts"
import { history } from "./migrations/0002_history.ts"
import { nodes } from "./migrations/0003_nodes.ts"
import { scopes } from "./migrations/0004_scopes.ts"
import { admins } from "./migrations/0005_admins.ts"
import { rotation } from "./migrations/0006_rotation.ts"
import { acceptance } from "./migrations/0007_acceptance.ts"
import { nodeEvents } from "./migrations/0008_node_events.ts"
import { reservedConnections, ReservedPool } from "./ReservedPool.ts"
import { atEdge, describeSqlError, StoreUnavailable } from "./sql.ts"

/** The database has a schema that only a later version of Control knows. */
export class SchemaTooNew extends Schema.TaggedError<SchemaTooNew>()("SchemaTooNew", {
  found: Schema.Int,
  known: Schema.Int
}) {
  override get message(): string {
    return `the database has schema version ${this.found}, but this version of Control knows only ${this.known}: run a newer Control`
  }
}

/** The database could not be brought to this version's schema. */
export class MigrationFailed
  extends Schema.TaggedError<MigrationFailed>()("MigrationFailed", { reason: Schema.String })
{
  override get message(): string {
    return `the database's schema could not be updated: ${this.reason}`
  }
}

/** Each version's changes of the schema, in order. */
export const migrations = {
  "0001_init": init,
  "0002_history": history,
  "0003_nodes": nodes,
  "0004_scopes": scopes,
  "0005_admins": admins,
  "0006_rotation": rotation,
  "0007_acceptance": acceptance,
  "0008_node_events": nodeEvents
}
export const migrationsTable = "control_migrations"

/** The newest schema that this version knows. */
export const schemaVersion = Math.max(...Object.keys(migrations).map((name) => Number.parseInt(name, 10)))

/** How long a start waits for a database that does not answer yet. */
const startPatience = Duration.seconds(20)

/**
 * Held for no longer than a change needs: a writer that stops with the counter's lock would hold up every other writer, so
 * the server ends its transaction.
 */
const timeouts = {
  lock_timeout: "3000",
  idle_in_transaction_session_timeout: "5000",
  statement_timeout: "10000"
}

/** `SqlClient` and `PgClient` on the database as it is, whatever its schema. */
export const client = Layer.unwrap(Effect.gen(function*() {
  const settings = yield* Settings
  const directory = yield* Directory
  const url = Option.isSome(settings.databaseUrl)
    ? settings.databaseUrl.value
    : (yield* startEmbeddedPostgres({ dataDir: (yield* directory.opened).path })).url
  const config = {
    url,
    connectTimeout: "5 seconds",
    keepAlive: "15 seconds",
    applicationName: "control",
    startupParameters: timeouts
  } as const
  const vital = Layer.effect(ReservedPool, SqlClient.SqlClient).pipe(
    Layer.provide(Layer.fresh(PgClient.layer({ ...config, maxConnections: reservedConnections })))
  )
  return Layer.merge(PgClient.layer({ ...config, maxConnections: 10 }), vital)
}))

/** Waits for the database, then brings its schema up to date; two processes that start at once do not disturb each other. */
const migrated = Layer.effectDiscard(Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  let last: string | undefined
  yield* atEdge(sql`select 1`).pipe(
    Effect.tapError(({ reason }) => {
      const isFirst = last === undefined
      last = reason
      return isFirst ? Effect.logWarning(`waiting for the database: ${reason}`) : Effect.void
    }),
    Effect.retry(Schedule.spaced("250 millis")),
    Effect.timeoutOrElse({
      duration: startPatience,
      orElse: () =>
        Effect.fail(
          new StoreUnavailable({ reason: `${last ?? "it gave no answer"}, for 20 seconds; check DATABASE_URL` })
        )
    })
  )
  yield* refuseNewerSchema(sql)
  yield* Migrator.make({})({ loader: Migrator.fromRecord(migrations), table: migrationsTable }).pipe(
    Effect.retry({
      times: 20,
      schedule: Schedule.spaced("250 millis"),
      while: (error) => "kind" in error && error.kind === "Locked"
    }),
    Effect.catchTag("MigrationError", (error) => Effect.fail(new MigrationFailed({ reason: reasonOf(error) }))),
    atEdge
  )
}))

/** Why in the database's own terms, which quote no row. */
function reasonOf({ cause, message }: Migrator.MigrationError): string {
  return cause === undefined ? message : `${message}: ${describeSqlError(Cause.fail(cause))}`
}

const refuseNewerSchema = Effect.fnUntraced(function*(sql: SqlClient.SqlClient) {
  const [table] = decodeThere(yield* atEdge(sql`select to_regclass(${migrationsTable}) is not null as there`))
  if (!table.there) return
  const [{ found }] = decodeFound(
    yield* atEdge(sql`select coalesce(max(migration_id), 0)::int as found from ${sql(migrationsTable)}`)
  )
  if (found > schemaVersion) return yield* new SchemaTooNew({ found, known: schemaVersion })
})

const decodeThere = Schema.decodeUnknownSync(Schema.Tuple([Schema.Struct({ there: Schema.Boolean })]))
const decodeFound = Schema.decodeUnknownSync(Schema.Tuple([Schema.Struct({ found: Schema.Int })]))

/** `SqlClient`, `PgClient` and `VitalPool` on a database with this version's schema. */
export const layer = migrated.pipe(Layer.provideMerge(client))
