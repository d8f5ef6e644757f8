/** Transactions, and the mapping of SQL errors to errors of the store and to defects. */
import { Revision } from "#schema/ids.ts"
import { Cause, Clock, Duration, Effect, Fiber, Metric, Option, Schedule, Schema } from "effect"
import { type SqlClient, SqlError } from "effect/sql"
import { AuditActor } from "./AuditActor.ts"
import { sessionTimeouts } from "./sessionTimeouts.ts"
import { causeOf } from "./startFailure.ts"
import { StoreUnavailable } from "./StoreUnavailable.ts"
import { queueWrite } from "./writeQueue.ts"

export { StoreUnavailable } from "./StoreUnavailable.ts"

/** PostgreSQL cannot read its own files. A defect, because retrying does not help; the message is for the operator. */
export class DatabaseDamaged extends Schema.TaggedError<DatabaseDamaged>()("DatabaseDamaged", {
  state: Schema.String
}) {
  override get message(): string {
    return `the database is damaged (SQLSTATE ${this.state}): the log of PostgreSQL names the file; restore a backup`
  }
}

/**
 * The defect of a statement that failed for a reason that retrying does not solve. It replaces the `SqlError`, because a
 * defect is logged with all its fields. Those of an `SqlError` quote rows and parameters (hashes of keys, encrypted
 * secrets).
 */
export class StatementFailed extends Schema.TaggedError<StatementFailed>()("StatementFailed", {
  /** The kind of error, its SQLSTATE, and the names of the constraint and table if it concerns one. Never values. */
  facts: Schema.String
}) {
  override get message(): string {
    return `a statement failed: ${this.facts}`
  }
}

/** An exhausted pool would otherwise make its callers wait without limit. */
const databaseTimeout = Duration.seconds(8)

/**
 * Maps SQL errors, and limits the wait to 8 s. A transient `SqlError` (lost connection, shutdown, lock or statement
 * timeout, disk full) becomes `StoreUnavailable`. Every other one becomes a defect, `DatabaseDamaged` or `StatementFailed`.
 * An `SqlError` that arrives as a defect is mapped in the same way, because a connection lost inside a transaction makes
 * its ROLLBACK fail with a defect.
 */
export const withStoreErrors = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, Exclude<E, SqlError.SqlError> | StoreUnavailable, R> =>
  detachOnInterrupt(withDurationMetric(effect)).pipe(
    Effect.timeoutOrElse({ duration: databaseTimeout, orElse: () => Effect.fail(noAnswer()) }),
    mapSqlErrors
  )

const noAnswer = () => new StoreUnavailable({ reason: "no answer within 8 seconds" })

const mapSqlErrors = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, Exclude<E, SqlError.SqlError> | StoreUnavailable, R> =>
  Effect.catchCause(effect, (cause): Effect.Effect<never, Exclude<E, SqlError.SqlError> | StoreUnavailable> => {
    const error = sqlErrorOf(cause)
    if (error === undefined) return Effect.failCause(cause as Cause.Cause<Exclude<E, SqlError.SqlError>>)
    if (isTransient(error)) return Effect.fail(new StoreUnavailable({ reason: describe(error) }))
    const state = sqlState(error)
    return Effect.die(
      /^XX00[12]$/u.test(state)
        ? new DatabaseDamaged({ state })
        : new StatementFailed({ facts: describeWithNames(error) })
    )
  })

/**
 * Lets an interrupted caller continue at once, and interrupts the effect in the background. A transaction begins and commits
 * uninterruptibly, so that a silent database would otherwise block its caller without limit.
 */
const detachOnInterrupt = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(
    Effect.forkDetach(effect, { startImmediately: true }),
    (fiber) => Effect.onInterrupt(Fiber.join(fiber), () => Effect.sync(() => fiber.interruptUnsafe()))
  )

/** Records the duration of a statement or transaction, whether it succeeds or fails. */
const withDurationMetric = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(Clock.monotonicTimeNanos, (started) =>
    Effect.ensuring(
      effect,
      Effect.flatMap(Clock.monotonicTimeNanos, (ended) => Metric.update(databaseTime, Number(ended - started) / 1e9))
    ))

const databaseTime = Metric.histogram("control_database_seconds", {
  description: "Duration of a statement or transaction, in seconds",
  boundaries: Metric.exponentialBoundaries({ start: 0.0005, factor: 2, count: 14 })
})

/**
 * Runs an effect in a transaction, again after a deadlock or a serialization failure. Errors are mapped by
 * `withStoreErrors`.
 */
export const transaction = (sql: SqlClient.SqlClient) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  withStoreErrors(Effect.flatMap(Effect.serviceOption(sql.transactionService), (outer) =>
    Option.isSome(outer)
      ? sql.withTransaction(effect)
      : Effect.retry(sql.withTransaction(effect), { times: maxRepeats, schedule: repeatDelay, while: isConflict })))

/** A transaction that PostgreSQL ended in favor of another one (SQLSTATE 40001, 40P01) can succeed when it is repeated. */
const isConflict = (error: unknown): boolean =>
  error instanceof SqlError.SqlError && /^(?:SerializationError|DeadlockError)$/u.test(error.reason._tag)

const maxRepeats = 5
const repeatDelay = Schedule.jittered(Schedule.exponential("10 millis"))

/**
 * Runs a long reading in a transaction that sees one snapshot of the database. `work` calls `step` after each statement, and
 * the limit of 8 s holds for each step, so that it does not depend on the number of rows. Ticks are counted instead of time,
 * so that a stall of this process is no silence of the database.
 */
export const snapshotTransaction = (sql: SqlClient.SqlClient) =>
<A, E, R>(
  work: (step: Effect.Effect<void>) => Effect.Effect<A, E, R>
): Effect.Effect<A, Exclude<E, SqlError.SqlError> | StoreUnavailable, R> =>
  Effect.suspend(() => {
    let silentSeconds = 0
    const step = Effect.sync(() => {
      silentSeconds = 0
    })
    const reading = Effect.andThen(
      // A slow step must not end the transaction. It only reads, so that it blocks no writer.
      sql`set transaction isolation level repeatable read, read only`,
      Effect.andThen(sql`set local idle_in_transaction_session_timeout = '60s'`, work(step))
    )
    const failOnSilence = Effect.suspend(() =>
      (silentSeconds += 1) > Duration.toSeconds(databaseTimeout) ? Effect.fail(noAnswer()) : Effect.void
    )
    return detachOnInterrupt(sql.withTransaction(reading)).pipe(
      Effect.raceFirst(Effect.forever(Effect.andThen(Effect.sleep("1 second"), failOnSilence))),
      mapSqlErrors
    )
  })

/** Runs an effect in a transaction whose changes the audit records under the current `AuditActor`. */
export const auditedTransaction = (sql: SqlClient.SqlClient) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  queueWrite(sql)(
    transaction(sql)(Effect.flatMap(AuditActor, ({ actor, address, name }) =>
      Effect.andThen(
        // The limits are those of `sessionParameters`, which a pooler does not accept.
        sql`select set_config('control.actor', ${actor}, true), set_config('control.address', ${address ?? ""}, true),
        set_config('control.actor_name', ${name ?? ""}, true), set_config(name, setting, true)
        from (values ${sql.literal(limits)}) as limits(name, setting)`,
        effect
      )))
  )

const limits = Object.entries(sessionTimeouts).map(([name, setting]) => `('${name}', '${setting}')`).join(", ")

/**
 * Tries to lock a background task for this transaction. Until the transaction ends, every other caller gets false. Nodes of
 * all versions must use the same name for a task.
 */
export const tryLockTask = (sql: SqlClient.SqlClient, task: string): Effect.Effect<boolean, SqlError.SqlError> =>
  Effect.map(
    sql`select pg_try_advisory_xact_lock(hashtext(${`control ${task}`})) as mine`,
    (rows) => decodeMine(rows)[0].mine
  )

const decodeMine = Schema.decodeUnknownSync(Schema.Tuple([Schema.Struct({ mine: Schema.Boolean })]))

/** The result of a write, and the newest revision after it: every view at this revision or later includes the write. */
export interface WithRevision<A> {
  readonly value: A
  readonly revision: Revision
}

/**
 * Runs an effect in an audited transaction, and returns its result with the newest revision. The deferred triggers run just
 * before the commit. So the row with the revision counter, which every writer needs, is locked as briefly as possible.
 */
export const revisionedTransaction = (sql: SqlClient.SqlClient) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  auditedTransaction(sql)(Effect.gen(function*() {
    const value = yield* effect
    yield* sql`set constraints all immediate`
    const [{ revision }] = decodeNewest(yield* sql`select revision::float8 as revision from control_meta`)
    return { value, revision } satisfies WithRevision<A>
  }))

const decodeNewest = Schema.decodeUnknownSync(Schema.Tuple([Schema.Struct({ revision: Revision })]))

/** The name of the violated constraint; undefined if the statement failed for another reason. */
export const violatedConstraint = (error: SqlError.SqlError): string | undefined => {
  return identifierField(error, "constraint")
}

/** Describes a cause for an operator without quoting rows. For errors other than SQL errors, only the name of the error. */
export const describeSqlError = (cause: Cause.Cause<unknown>): string => {
  const error = sqlErrorOf(cause)
  if (error !== undefined) return describeWithNames(error)
  const other = Cause.squash(cause)
  if (other instanceof StatementFailed) return other.facts
  return other instanceof Error ? other.name : "interrupted"
}

function sqlErrorOf(cause: Cause.Cause<unknown>): SqlError.SqlError | undefined {
  for (const reason of cause.reasons) {
    if (Cause.isFailReason(reason) && reason.error instanceof SqlError.SqlError) return reason.error
    if (Cause.isDieReason(reason) && reason.defect instanceof SqlError.SqlError) return reason.defect
  }
  return undefined
}

/**
 * SQLSTATE classes: 08 connection, 25006 read-only standby after a failover, 25P03 and 25P04 timeouts of transactions, 28 and
 * 3D000 and 55000 connection not allowed now, 42501 revoked privilege, 53 insufficient resources, 57 shutdown and cancel,
 * 55P03 lock timeout.
 */
function isTransient(error: SqlError.SqlError): boolean {
  return error.isRetryable || /^(?:08|25006|25P0[34]|28|3D000|42501|53|55000|55P03|57)/.test(sqlState(error))
}

function sqlState(error: SqlError.SqlError): string {
  return identifierField(error, "code") ?? ""
}

/**
 * A field of PostgreSQL's error report that holds an identifier. The others (`message`, `detail`, `where`, …) can quote
 * rows.
 */
function identifierField(error: SqlError.SqlError, name: "code" | "constraint" | "table"): string | undefined {
  const { cause } = error.reason
  if (typeof cause !== "object" || cause === null || !(name in cause)) return undefined
  const value = (cause as { readonly [name: string]: unknown })[name]
  return typeof value === "string" ? value : undefined
}

function describeWithNames(error: SqlError.SqlError): string {
  const table = identifierField(error, "table")
  return [describe(error), violatedConstraint(error), table && `table ${table}`].filter((part) => part !== undefined)
    .join(", ")
}

/** The words of PostgreSQL or of the operating system about a connection, with the SQLSTATE. They never quote rows. */
export const describeConnectionError = (error: SqlError.SqlError): string => {
  const { message } = causeOf(error.reason.cause)
  const state = sqlState(error)
  return message === "" ? describe(error) : `${message}${/^[0-9A-Z]{5}$/u.test(state) ? ` (SQLSTATE ${state})` : ""}`
}

/** States that the operator has to change, in words. */
const knownStates: Readonly<Record<string, string>> = {
  "25006": "the database is read-only",
  "42501": "the database user lacks a privilege that /readyz names"
}

/** The kind of error and its SQLSTATE. Never the server's own text, because it can quote a row. */
function describe(error: SqlError.SqlError): string {
  const state = sqlState(error)
  if (state in knownStates) return `${knownStates[state]} (SQLSTATE ${state})`
  const code = /^[0-9A-Z]{5}$/u.test(state) ? `SQLSTATE ${state}` : state
  return state === "" ? error.reason._tag : `${error.reason._tag} (${code})`
}
