/** What every store does at its edge: run in a transaction, and tell an absent database from a broken statement. */
import { Revision } from "#schema/ids.ts"
import { Cause, Clock, Duration, Effect, Fiber, Metric, Schema } from "effect"
import { type SqlClient, SqlError } from "effect/sql"
import { AuditActor } from "./AuditActor.ts"

/**
 * The database cannot be asked now, or what it has is held back; the same request may succeed later. Nothing was stored,
 * unless it was a commit that got no answer.
 */
export class StoreUnavailable extends Schema.TaggedError<StoreUnavailable>()("StoreUnavailable", {
  reason: Schema.String
}) {
  override get message(): string {
    return `the database cannot be used: ${this.reason}`
  }
}

/** PostgreSQL cannot read its own files. Waiting mends nothing: a defect, with a message for whoever has to act. */
export class DatabaseDamaged extends Schema.TaggedError<DatabaseDamaged>()("DatabaseDamaged", {
  state: Schema.String
}) {
  override get message(): string {
    return `the database is damaged (SQLSTATE ${this.state}): restore a backup; PostgreSQL's own log says which file it is`
  }
}

/**
 * The defect that a statement ends in when nothing passing is the matter. It takes the place of the `SqlError`, whose text and
 * fields quote rows and parameters (a hash of a key, what is encrypted): a defect is logged with all that is in it.
 */
export class StatementFailed extends Schema.TaggedError<StatementFailed>()("StatementFailed", {
  /** What the database said, by names alone: the kind, SQLSTATE, and the constraint and table if it is about one. */
  facts: Schema.String
}) {
  override get message(): string {
    return `a statement failed: ${this.facts}`
  }
}

/** A pool that is exhausted waits for ever; nobody else should. */
const patience = Duration.seconds(8)

/**
 * Turns an `SqlError` of a passing kind (lost connection, shutdown, lock or statement time-out, disk full) into
 * `StoreUnavailable`; any other is a defect, a `StatementFailed`. An `SqlError` that arrives as a defect is treated alike, since a connection
 * lost inside a transaction ends as one: its ROLLBACK fails.
 */
export const atEdge = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, Exclude<E, SqlError.SqlError> | StoreUnavailable, R> =>
  abandonable(measured(effect)).pipe(
    Effect.timeoutOrElse({
      duration: patience,
      orElse: () => Effect.fail(new StoreUnavailable({ reason: "no answer in time" }))
    }),
    Effect.catchCause((cause): Effect.Effect<never, Exclude<E, SqlError.SqlError> | StoreUnavailable> => {
      const error = sqlErrorOf(cause)
      if (error === undefined) return Effect.failCause(cause as Cause.Cause<Exclude<E, SqlError.SqlError>>)
      if (isPassing(error)) return Effect.fail(new StoreUnavailable({ reason: describe(error) }))
      const state = sqlState(error)
      return Effect.die(
        /^XX00[12]$/u.test(state) ? new DatabaseDamaged({ state }) : new StatementFailed({ facts: factsOf(error) })
      )
    })
  )

/**
 * A transaction begins and commits uninterruptibly, so a database that falls silent in the middle could be waited for without
 * end: who is interrupted here goes on at once, and the transaction is interrupted as soon as it can be.
 */
const abandonable = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(
    Effect.forkDetach(effect, { startImmediately: true }),
    (fiber) => Effect.onInterrupt(Fiber.join(fiber), () => Effect.sync(() => fiber.interruptUnsafe()))
  )

/** How long the database was waited for, whatever came of it. */
const measured = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.flatMap(Clock.monotonicTimeNanos, (started) =>
    Effect.ensuring(
      effect,
      Effect.flatMap(Clock.monotonicTimeNanos, (ended) => Metric.update(databaseTime, Number(ended - started) / 1e9))
    ))

const databaseTime = Metric.histogram("control_database_seconds", {
  description: "Time for which a statement or a transaction was waited for",
  boundaries: Metric.exponentialBoundaries({ start: 0.0005, factor: 2, count: 14 })
})

/** All or nothing; see `atEdge` for how it fails. */
export const transaction = (sql: SqlClient.SqlClient) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  atEdge(sql.withTransaction(effect))

/** A transaction that writes, in the name of the `Actor`. */
export const writing = (sql: SqlClient.SqlClient) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  transaction(sql)(Effect.flatMap(AuditActor, ({ actor, address, name }) =>
    Effect.andThen(
      sql`select set_config('control.actor', ${actor}, true), set_config('control.address', ${address ?? ""}, true),
        set_config('control.actor_name', ${name ?? ""}, true)`,
      effect
    )))

/** Whether this transaction has the chore of this name to itself: until it ends, every other one is told no. */
export const isMine = (sql: SqlClient.SqlClient, chore: string): Effect.Effect<boolean, SqlError.SqlError> =>
  Effect.map(
    sql`select pg_try_advisory_xact_lock(hashtext(${`control ${chore}`})) as mine`,
    (rows) => decodeMine(rows)[0].mine
  )

const decodeMine = Schema.decodeUnknownSync(Schema.Tuple([Schema.Struct({ mine: Schema.Boolean })]))

/** What a write has given, and a revision from which on every view has it. */
export interface Written<A> {
  readonly value: A
  readonly revision: Revision
}

/**
 * As `writing`, with the newest revision. The triggers run just before the commit, so the counter, which every writer needs,
 * is locked for no longer.
 */
export const write = (sql: SqlClient.SqlClient) => <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  writing(sql)(Effect.gen(function*() {
    const value = yield* effect
    yield* sql`set constraints all immediate`
    const [{ revision }] = decodeNewest(yield* sql`select revision::float8 as revision from control_meta`)
    return { value, revision } satisfies Written<A>
  }))

const decodeNewest = Schema.decodeUnknownSync(Schema.Tuple([Schema.Struct({ revision: Revision })]))

/** The name of the constraint that a statement has violated, if that is why it failed. */
export const violated = (error: SqlError.SqlError): string | undefined => {
  return fieldOf(error, "constraint")
}

/** In words that quote no row, for a person; whatever else it was, its kind. */
export const describeSqlError = (cause: Cause.Cause<unknown>): string => {
  const error = sqlErrorOf(cause)
  if (error !== undefined) return factsOf(error)
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
 * SQLSTATE classes: 08 connection, 25006 a standby after a failover, 25P03 idle in transaction, 28 and 3D000 and 55000 no
 * connection allowed now, 53 resources, 57 shutdown and cancel, 55P03 lock time-out.
 */
function isPassing(error: SqlError.SqlError): boolean {
  return error.isRetryable || /^(?:08|25006|25P03|28|3D000|53|55000|55P03|57)/.test(sqlState(error))
}

function sqlState(error: SqlError.SqlError): string {
  return fieldOf(error, "code") ?? ""
}

/** One of the fields of PostgreSQL's report that are names; `message`, `detail`, `where` and the others may quote what is stored. */
function fieldOf(error: SqlError.SqlError, name: "code" | "constraint" | "table"): string | undefined {
  const { cause } = error.reason
  if (typeof cause !== "object" || cause === null || !(name in cause)) return undefined
  const value = (cause as { readonly [name: string]: unknown })[name]
  return typeof value === "string" ? value : undefined
}

function factsOf(error: SqlError.SqlError): string {
  const table = fieldOf(error, "table")
  return [describe(error), violated(error), table && `table ${table}`].filter((part) => part !== undefined).join(", ")
}

/** Never the server's own text: it may quote a row. */
function describe(error: SqlError.SqlError): string {
  const state = sqlState(error)
  const code = /^[0-9A-Z]{5}$/u.test(state) ? `SQLSTATE ${state}` : state
  return state === "" ? error.reason._tag : `${error.reason._tag} (${code})`
}
