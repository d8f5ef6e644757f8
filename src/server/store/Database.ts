/** Connects to PostgreSQL (`DATABASE_URL`, or else an embedded one) and migrates its schema. */
import { Settings } from "#server/Settings.ts"
import { PgClient, PgConnection } from "@effect/sql-pg"
import { Cause, Duration, Effect, Layer, Option, Redacted, Schedule, Schema } from "effect"
import { Migrator, SqlClient, SqlError } from "effect/sql"
import { connectPostgres, startFailureOf, toUnavailable } from "./connectPostgres.ts"
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
import { certificateSources } from "./migrations/0009_certificate_sources.ts"
import { wireguardKeys } from "./migrations/0010_wireguard_keys.ts"
import { addressChecks } from "./migrations/0011_address_checks.ts"
import { uniqueNames } from "./migrations/0012_unique_names.ts"
import { clientAudit } from "./migrations/0015_client_audit.ts"
import { revisionCounter } from "./migrations/0016_revision_counter.ts"
import { tunnelPorts } from "./migrations/0017_tunnel_ports.ts"
import { servingReports } from "./migrations/0018_serving_reports.ts"
import { auditRetention } from "./migrations/0014_audit_retention.ts"
import { reportSessions } from "./migrations/0013_report_sessions.ts"
import { ReservedPool, reservedPoolSize } from "./ReservedPool.ts"
import { SessionConnection } from "./SessionConnection.ts"
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
  "0009_certificate_sources": certificateSources,
  "0010_wireguard_keys": wireguardKeys,
  "0011_address_checks": addressChecks,
  "0012_unique_names": uniqueNames,
  "0013_report_sessions": reportSessions,
  "0014_audit_retention": auditRetention,
  "0015_client_audit": clientAudit,
  "0016_revision_counter": revisionCounter,
  "0017_tunnel_ports": tunnelPorts,
  "0018_serving_reports": servingReports
}
/** The table of applied migrations. */
export const migrationsTable = "control_migrations"

/** The newest schema that this version knows. */
export const schemaVersion = Math.max(...Object.keys(migrations).map((name) => Number.parseInt(name, 10)))

/** Maximum wait for a database that does not answer at startup. */
const startTimeout = Duration.seconds(20)

/** Pools and session connections to the database, without a check of its schema. */
const makeConnectionLayer = (start: typeof connectOnce) =>
  Layer.unwrap(Effect.gen(function*() {
    const settings = yield* Settings
    const directory = yield* DataDirectory
    const isExternal = Option.isSome(settings.databaseUrl)
    const url = isExternal
      ? settings.databaseUrl.value
      : (yield* startEmbeddedPostgres({ dataDir: (yield* directory.open).path })).url
    const variables = isExternal ? Redacted.value(settings.postgresVariables) : {}
    const found = yield* start(connectPostgres(Redacted.value(url), variables, "DATABASE_URL"))
    const direct = Option.isNone(settings.listenUrl)
      ? found
      : yield* start(connectPostgres(Redacted.value(settings.listenUrl.value), variables, "CONTROL_LISTEN_URL"))
    if (direct.identity !== found.identity) {
      return yield* new StoreUnavailable({ reason: "CONTROL_LISTEN_URL and DATABASE_URL lead to different databases" })
    }
    const isAvailable = direct.pooling !== "transaction"
    if (!isAvailable) {
      yield* Effect.logWarning(
        "the pooler of DATABASE_URL is in transaction mode, so changes by other nodes arrive after up to 2 s and master keys " +
          "cannot be rotated; set CONTROL_LISTEN_URL to a direct connection"
      )
    }
    const pool = (maxConnections: number) => PgClient.layer({ ...found.config, maxConnections })
    return Layer.mergeAll(
      pool(10),
      Layer.effect(ReservedPool, SqlClient.SqlClient).pipe(Layer.provide(Layer.fresh(pool(reservedPoolSize)))),
      Layer.succeed(SessionConnection, { isAvailable, open: PgConnection.make(direct.config) })
    )
  }))

const connectOnce = (connecting: ReturnType<typeof connectPostgres>) => Effect.mapError(connecting, toUnavailable)

/** Waits up to 20 s for a database that can become available, and logs the reason every 5 s or when it changes. */
const waitForDatabase = Effect.fnUntraced(function*(connecting: ReturnType<typeof connectPostgres>) {
  let last: { readonly reason: string; readonly attempt: number } | undefined
  let attempt = 0
  return yield* connecting.pipe(
    Effect.tapError(({ isFinal, reason }) => {
      attempt++
      if (isFinal || (last?.reason === reason && attempt < last.attempt + 20)) return Effect.void
      last = { reason, attempt }
      return Effect.logWarning(`waiting up to 20 seconds for the database: ${reason}`)
    }),
    Effect.retry({ schedule: Schedule.spaced("250 millis"), while: ({ isFinal }) => !isFinal }),
    Effect.mapError(toUnavailable),
    Effect.timeoutOrElse({
      duration: startTimeout,
      orElse: () =>
        Effect.fail(
          new StoreUnavailable({ reason: `${last?.reason ?? "no answer"} for 20 seconds; check DATABASE_URL` })
        )
    })
  )
})

/** The database without a check of its schema. Fails at once if it does not answer. */
export const connectionLayer = makeConnectionLayer(connectOnce)

/** Migrates the schema. Two processes that start at once do not conflict. */
const migrateSchema = Layer.effectDiscard(Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* rejectNewerSchema(sql)
  yield* Migrator.make({})({ loader: Migrator.fromRecord(migrations), table: migrationsTable }).pipe(
    Effect.retry({
      times: 20,
      schedule: Schedule.spaced("250 millis"),
      while: (error) => "kind" in error && error.kind === "Locked"
    }),
    Effect.catchTag("MigrationError", (error) => Effect.fail(new MigrationFailed({ reason: reasonOf(error) }))),
    Effect.catchIf(
      isNotPermitted,
      (error) => Effect.fail(new MigrationFailed({ reason: startFailureOf(error).reason }))
    ),
    withStoreErrors
  )
}))

const isNotPermitted = (error: unknown): error is SqlError.SqlError =>
  error instanceof SqlError.SqlError && error.reason._tag === "AuthorizationError"

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

/** The database with the schema of this version. */
export const layer = migrateSchema.pipe(Layer.provideMerge(makeConnectionLayer(waitForDatabase)))
