/** A consistent copy of all that cannot be made anew: every row as of one moment, with what is encrypted still encrypted. */
import { Revision, Timeline, Timestamp } from "#schema/ids.ts"
import { Cause, Clock, Context, DateTime, Effect, Layer, Option, Queue, Schema, Semaphore, Stream } from "effect"
import { SqlClient, type SqlConnection, type SqlError } from "effect/sql"
import { BackupWriter } from "./file.ts"
import { backedUp } from "./tables.ts"
import { historyName } from "#store/ChangeLog.ts"
import { migrationsTable } from "#store/Database.ts"
import { describeSqlError } from "#store/sql.ts"

/** The database did not give all of its rows. */
export class BackupFailed extends Schema.TaggedError<BackupFailed>()("BackupFailed", { reason: Schema.String }) {
  override get message(): string {
    return `no backup was made: ${this.reason}`
  }
}

export class Backup extends Context.Service<Backup, {
  /**
   * The bytes of a backup file, read from one snapshot of the database as they are taken; one backup at a time. Whoever takes
   * nothing for a minute gets no more.
   */
  readonly dump: Stream.Stream<Uint8Array, BackupFailed>
  /** When the last whole backup was made, by any node; none if that is not known. */
  readonly last: Effect.Effect<Option.Option<string>>
}>()("control/store/backup/Backup") {
  static readonly layer = Layer.effect(
    Backup,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const oneAtATime = yield* Semaphore.make(1)

      const lines = Stream.callback<string, BackupFailed>(
        (queue) =>
          readAll(sql, (text) => taken(Queue.offer(queue, text))).pipe(
            Effect.andThen(noteDone(sql)),
            oneAtATime.withPermits(1),
            Effect.catchCause((cause) => Effect.fail(failure(cause))),
            Effect.andThen(Queue.end(queue))
          ),
        { bufferSize: 2, strategy: "suspend" }
      )
      return Backup.of({ dump: compressed(lines), last: lastOf(sql) })
    })
  )
}

/** A snapshot that is held keeps the database from cleaning up, and a place in the pool from everybody else. */
const taken = (offered: Effect.Effect<unknown>) =>
  Effect.timeoutOrElse(offered, {
    duration: "1 minute",
    orElse: () => Effect.fail(new BackupFailed({ reason: "nobody took more of it for a minute" }))
  })

const compressed = (lines: Stream.Stream<string, BackupFailed>): Stream.Stream<Uint8Array, BackupFailed> =>
  Stream.fromReadableStream<Uint8Array, BackupFailed>({
    evaluate: () => Stream.toReadableStream(Stream.encodeText(lines)).pipeThrough(gzip()),
    onError: (error) => error instanceof BackupFailed ? error : new BackupFailed({ reason: String(error) })
  })

/** The types of the two sides differ in which buffers they allow. */
const gzip = (): ReadableWritablePair<Uint8Array, Uint8Array> =>
  new CompressionStream("gzip") as unknown as ReadableWritablePair<Uint8Array, Uint8Array>

/** The rows of one round trip: a few hundred kilobytes at most. */
const fetched = 200

type Take = (text: string) => Effect.Effect<unknown, BackupFailed>

const readAll = (sql: SqlClient.SqlClient, take: Take): Effect.Effect<void, BackupFailed | SqlError.SqlError> =>
  Effect.scoped(Effect.gen(function*() {
    const connection = yield* sql.reserve
    const run = (statement: string) => connection.executeUnprepared(statement, [], undefined)
    yield* Effect.acquireRelease(
      run("begin transaction isolation level repeatable read, read only"),
      () => Effect.ignore(run("rollback"))
    )
    yield* run("set local statement_timeout = '60s'")
    yield* run("set local idle_in_transaction_session_timeout = '60s'")
    const writer = new BackupWriter()
    yield* take(writer.header(yield* headerOf(run)))
    const there = new Set<unknown>((yield* run(tablesThere)).map(({ name }) => name))
    for (const { image, key, table } of backedUp.filter(({ table }) => there.has(table))) {
      yield* run(`declare backup no scroll cursor for select (${image})::text as image from ${table} order by ${key}`)
      while (true) {
        const rows = yield* run(`fetch ${fetched} from backup`)
        if (rows.length > 0) yield* take(writer.rows(table, rows.map(({ image }) => String(image))))
        if (rows.length < fetched) break
      }
      yield* run("close backup")
    }
    yield* take(writer.footer())
  }))

type Run = (statement: string) => ReturnType<SqlConnection.Connection["executeUnprepared"]>

const tablesThere = `select table_name as name from information_schema.tables where table_schema = current_schema()`

const headerOf = Effect.fnUntraced(function*(run: Run) {
  const [row] = decodeHeads(
    yield* run(`select ${historyName} as timeline, m.revision::float8 as revision, m.master_key_id as "masterKey",
      control_iso(now()) as at, (select max(migration_id) from ${migrationsTable})::int as schema from control_meta m`)
  )
  if (row === undefined) return yield* new BackupFailed({ reason: "the table control_meta has lost its one row" })
  return { format: "control-backup" as const, version: 1 as const, ...row }
})

const decodeHeads = Schema.decodeUnknownSync(Schema.Array(Schema.Struct({
  timeline: Timeline,
  revision: Revision,
  masterKey: Schema.NullOr(Schema.String),
  at: Timestamp,
  schema: Schema.Int
})))

function failure(cause: Cause.Cause<BackupFailed | SqlError.SqlError>): BackupFailed {
  const error = Option.getOrUndefined(Cause.findErrorOption(cause))
  if (error instanceof BackupFailed) return error
  return new BackupFailed({ reason: `the database did not give all of its rows: ${describeSqlError(cause)}` })
}

/**
 * Where every node finds it, and a backup by other means takes it along: in the comment of a table. It is a precaution of
 * the doctor's: where it cannot be written, nothing else is lost.
 */
const noteDone = Effect.fnUntraced(function*(sql: SqlClient.SqlClient) {
  const at = DateTime.formatIso(DateTime.makeUnsafe(yield* Clock.currentTimeMillis))
  yield* sql.unsafe(`comment on table control_meta is '${notePrefix}${at}'`).pipe(
    Effect.catchCause(() => Effect.logWarning("when this backup was made could not be noted in the database"))
  )
})

const notePrefix = "last backup: "

const lastOf = (sql: SqlClient.SqlClient): Effect.Effect<Option.Option<string>> =>
  sql<{ note: string | null }>`select obj_description(to_regclass('control_meta'), 'pg_class') as note`.pipe(
    Effect.map(([row]) =>
      Option.fromNullishOr(row?.note).pipe(
        Option.filter((note) => note.startsWith(notePrefix)),
        Option.map((note) => note.slice(notePrefix.length))
      )
    ),
    Effect.catchCause(() => Effect.succeedNone)
  )
