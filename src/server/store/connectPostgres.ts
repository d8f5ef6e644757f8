/** Finds a configuration with which PostgreSQL accepts a connection, and checks what the code relies upon. */
import { readPostgresTarget } from "#server/Settings.ts"
import { PgConnection } from "@effect/sql-pg"
import { Effect, Result, Schema } from "effect"
import type { SqlError } from "effect/sql"
import { candidateConfigs, sessionParametersOf } from "./postgresConfig.ts"
import { describeConnectionError, StoreUnavailable } from "./sql.ts"
import { remedyFor } from "./startFailure.ts"

/** A failure of the start. `isFinal`: waiting does not help. */
export class StartFailure extends Schema.TaggedError<StartFailure>()("StartFailure", {
  reason: Schema.String,
  isFinal: Schema.Boolean
}) {}

export const connectPostgres = Effect.fn("connectPostgres")(
  function*(url: string, variables: Readonly<Record<string, string | undefined>>, urlName: string) {
    const target = readPostgresTarget(url, variables, urlName)
    if (Result.isFailure(target)) {
      return yield* finalFailure(target.failure.map(({ allowed, name }) => `${name} must be ${allowed}`).join("; "))
    }
    const candidates = yield* candidateConfigs(target.success).pipe(
      Effect.catchTag("TlsFileUnreadable", ({ message }) => finalFailure(message))
    )
    const errors: Array<SqlError.SqlError> = []
    for (const config of candidates) {
      const attempt = yield* Effect.result(Effect.scoped(examine(config)))
      if (Result.isSuccess(attempt)) return attempt.success
      if (attempt.failure._tag === "StartFailure") return yield* attempt.failure
      errors.push(attempt.failure)
      if (remedyFor(attempt.failure) === undefined) break
    }
    return yield* failureOf(errors)
  }
)

const finalFailure = (reason: string) => Effect.fail(new StartFailure({ reason, isFinal: true }))

/** Reports the first error of a server that was reached. A server without TLS is only the reason if TLS is required. */
function failureOf(errors: ReadonlyArray<SqlError.SqlError>): Effect.Effect<never, StartFailure> {
  const transient = errors.find((error) => remedyFor(error) === undefined)
  const error = transient ?? errors.find((error) => !describeConnectionError(error).includes("support TLS")) ??
    errors[0]
  if (error === undefined) return finalFailure("no configuration of the connection")
  return Effect.fail(startFailureOf(error))
}

/** The failure with PostgreSQL's own words, and the remedy if waiting does not help. */
export const startFailureOf = (error: SqlError.SqlError): StartFailure => {
  const remedy = remedyFor(error)
  const words = describeConnectionError(error)
  return new StartFailure({
    reason: remedy === undefined ? words : `${words}; ${remedy}`,
    isFinal: remedy !== undefined
  })
}

/** Connects without the parameters that poolers reject, and reads what decides about them. */
const examine = Effect.fnUntraced(function*(config: PgConnection.Config) {
  const connection = yield* PgConnection.make({ ...config, prepare: false })
  const [facts] = decodeFacts((yield* connection.query(factsQuery)).rows)
  yield* rejectUnusable(facts)
  if (facts.pid === connection.processId) {
    return {
      config: { ...config, startupParameters: sessionParametersOf(facts.version) },
      pooling: "none",
      identity: facts.identity
    } as const
  }
  if (facts.isolation !== "read committed") {
    return yield* finalFailure(
      `default_transaction_isolation is ${facts.isolation}; set it behind a pooler with ` +
        "ALTER ROLE … SET default_transaction_isolation TO 'read committed'"
    )
  }
  const pooling = yield* findPoolMode(connection, config)
  return { config: { ...config, prepare: pooling === "session" }, pooling, identity: facts.identity } as const
})

/**
 * A pooler in transaction mode keeps no session: no LISTEN, session locks or prepared statements. There, another client gets
 * the PostgreSQL session of an idle one.
 */
const findPoolMode = Effect.fnUntraced(function*(one: PgConnection.PgConnection, config: PgConnection.Config) {
  const other = yield* PgConnection.make({ ...config, prepare: false })
  const before = yield* readPid(one)
  yield* other.query("begin")
  const during = yield* readPid(other)
  const after = yield* readPid(one)
  yield* other.query("rollback")
  return before === during || before !== after ? "transaction" as const : "session" as const
})

const readPid = (connection: PgConnection.PgConnection) =>
  Effect.map(connection.query("select pg_backend_pid() as pid"), ({ rows }) => decodePid(rows)[0].pid)

const factsQuery = `select pg_backend_pid() as pid, getdatabaseencoding() as encoding,
  current_setting('server_version_num')::int as version, current_schema() is null as lacks_schema,
  current_setting('default_transaction_isolation') as isolation, current_setting('transaction_read_only') as read_only,
  current_setting('session_replication_role') as replication_role,
  current_database() || ' ' || (select system_identifier from pg_control_system()) as identity`

const Facts = Schema.Struct({
  pid: Schema.Int,
  encoding: Schema.String,
  version: Schema.Int,
  lacks_schema: Schema.Boolean,
  isolation: Schema.String,
  read_only: Schema.String,
  replication_role: Schema.String,
  identity: Schema.String
})
const decodeFacts = Schema.decodeUnknownSync(Schema.Tuple([Facts]))
const decodePid = Schema.decodeUnknownSync(Schema.Tuple([Schema.Struct({ pid: Schema.Int })]))

function rejectUnusable(facts: typeof Facts.Type): Effect.Effect<void, StartFailure> {
  if (facts.version < 150_000)
    return finalFailure(`PostgreSQL ${Math.floor(facts.version / 10_000)} is too old; use version 15 or newer`)
  if (facts.encoding !== "UTF8") {
    return finalFailure(
      `its encoding is ${facts.encoding}, but names need UTF8; create one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0`
    )
  }
  if (facts.lacks_schema)
    return finalFailure("search_path names no schema that exists and that the user may use; set search_path to one")
  if (facts.replication_role !== "origin") {
    return finalFailure(
      `session_replication_role is ${facts.replication_role}, which disables the triggers of Control; set it to origin`
    )
  }
  // A standby can be promoted at any moment.
  if (facts.read_only === "on")
    return Effect.fail(
      new StartFailure({ reason: "it is read-only (a standby, or default_transaction_read_only)", isFinal: false })
    )
  return Effect.void
}

/** Without waiting, for commands. */
export const toUnavailable = ({ reason }: StartFailure) => new StoreUnavailable({ reason })
