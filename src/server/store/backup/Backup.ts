/** Backs up all configuration rows in one database snapshot, signed; encrypted values stay encrypted. */
import type { Cipher } from "#crypto/Cipher.ts"
import { Revision, Timeline, Timestamp } from "#schema/ids.ts"
import { Cause, Clock, Context, DateTime, Effect, Layer, Option, Queue, Schema, Semaphore, Stream } from "effect"
import { SqlClient, type SqlConnection, type SqlError } from "effect/sql"
import { BackupWriter } from "./file.ts"
import { sign } from "./signature.ts"
import { backupTables } from "./tables.ts"
import { timelineExpression } from "#store/logPosition.ts"
import { migrationsTable } from "#store/Database.ts"
import { describeSqlError } from "#store/sql.ts"

/** The database did not return all rows, or the reader was too slow. */
export class BackupFailed extends Schema.TaggedError<BackupFailed>()("BackupFailed", { reason: Schema.String }) {
  override get message(): string {
    return `cannot make a backup: ${this.reason}`
  }
}

/** Makes backups. */
export class Backup extends Context.Service<Backup, {
  /**
   * The bytes of a backup file. Reads one snapshot of the database at the pace of the consumer, and one backup at a time.
   * Fails if the consumer reads nothing for one minute. Signs the file with the database's writing key, or with that of the
   * cipher if the cipher lacks it; without a cipher, the file is not signed.
   */
  dump(cipher: Option.Option<Cipher>): Stream.Stream<Uint8Array, BackupFailed>
  /** The time of the last complete backup by any node; none if it is unknown. */
  readonly lastBackupAt: Effect.Effect<Option.Option<string>>
}>()("control/store/backup/Backup") {
  static readonly layer = Layer.effect(
    Backup,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const oneAtATime = yield* Semaphore.make(1)

      const lines = Stream.callback<string, BackupFailed>(
        (queue) =>
          readAll(sql, (text) => withinReadTimeout(Queue.offer(queue, text))).pipe(
            Effect.andThen(recordCompletion(sql)),
            oneAtATime.withPermits(1),
            Effect.catchCause((cause) => Effect.fail(toBackupFailed(cause))),
            Effect.andThen(Queue.end(queue))
          ),
        { bufferSize: 2, strategy: "suspend" }
      )
      const dump = (cipher: Option.Option<Cipher>) =>
        Option.match(cipher, {
          onNone: () => compressed(lines),
          onSome: (cipher) =>
            Stream.unwrap(Effect.map(readWritingKey(sql), (keyId) =>
              sign(compressed(lines), keyId === null ? cipher : cipher.forWritingKey(keyId) ?? cipher)))
        })
      return Backup.of({ dump, lastBackupAt: readLastBackupAt(sql) })
    })
  )
}

/** A slow consumer would hold a snapshot, which blocks VACUUM, and a connection of the pool. */
const withinReadTimeout = (offered: Effect.Effect<unknown>) =>
  Effect.timeoutOrElse(offered, {
    duration: "1 minute",
    orElse: () => Effect.fail(new BackupFailed({ reason: "the client has read nothing for one minute" }))
  })

const compressed = (lines: Stream.Stream<string, BackupFailed>): Stream.Stream<Uint8Array, BackupFailed> =>
  Stream.fromReadableStream<Uint8Array, BackupFailed>({
    evaluate: () => Stream.toReadableStream(Stream.encodeText(lines)).pipeThrough(gzip()),
    onError: (error) => error instanceof BackupFailed ? error : new BackupFailed({ reason: String(error) })
  })

/** The cast is needed because the types of the two sides allow different buffers. */
const gzip = (): ReadableWritablePair<Uint8Array, Uint8Array> =>
  new CompressionStream("gzip") as unknown as ReadableWritablePair<Uint8Array, Uint8Array>

/** Rows per round trip, a few hundred kilobytes at most. */
const fetchSize = 200

type Emit = (text: string) => Effect.Effect<unknown, BackupFailed>

const readAll = (sql: SqlClient.SqlClient, emit: Emit): Effect.Effect<void, BackupFailed | SqlError.SqlError> =>
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
    yield* emit(writer.header(yield* headerOf(run)))
    const existing = new Set<unknown>((yield* run(existingTables)).map(({ name }) => name))
    for (const { image, key, table } of backupTables.filter(({ table }) => existing.has(table))) {
      yield* run(`declare backup no scroll cursor for select (${image})::text as image from ${table} order by ${key}`)
      while (true) {
        const rows = yield* run(`fetch ${fetchSize} from backup`)
        if (rows.length > 0) yield* emit(writer.rows(table, rows.map(({ image }) => String(image))))
        if (rows.length < fetchSize) break
      }
      yield* run("close backup")
    }
    yield* emit(writer.footer())
  }))

const readWritingKey = (sql: SqlClient.SqlClient): Effect.Effect<string | null, BackupFailed> =>
  sql<{ id: string | null }>`select master_key_id as id from control_meta`.pipe(
    Effect.map(([row]) => row?.id ?? null),
    Effect.catchCause((cause) => Effect.fail(toBackupFailed(cause)))
  )

type Run = (statement: string) => ReturnType<SqlConnection.Connection["executeUnprepared"]>

const existingTables = `select table_name as name from information_schema.tables where table_schema = current_schema()`

const headerOf = Effect.fnUntraced(function*(run: Run) {
  const [row] = decodeHeads(
    yield* run(
      `select ${timelineExpression} as timeline, m.revision::float8 as revision, m.master_key_id as "masterKey",
      control_iso(now()) as at, (select max(migration_id) from ${migrationsTable})::int as schema from control_meta m`
    )
  )
  if (row === undefined)
    return yield* new BackupFailed({ reason: "the table control_meta has no row; restore the database from a backup" })
  return { format: "control-backup" as const, version: 1 as const, ...row }
})

const decodeHeads = Schema.decodeUnknownSync(Schema.Array(Schema.Struct({
  timeline: Timeline,
  revision: Revision,
  masterKey: Schema.NullOr(Schema.String),
  at: Timestamp,
  schema: Schema.Int
})))

function toBackupFailed(cause: Cause.Cause<BackupFailed | SqlError.SqlError>): BackupFailed {
  const error = Option.getOrUndefined(Cause.findErrorOption(cause))
  if (error instanceof BackupFailed) return error
  return new BackupFailed({ reason: `the database did not return all rows: ${describeSqlError(cause)}` })
}

/**
 * Stores the time of the backup in the comment of a table, where every node finds it and where `pg_dump` includes it. Only
 * the doctor uses it, so a failure is only logged.
 */
const recordCompletion = Effect.fnUntraced(function*(sql: SqlClient.SqlClient) {
  const at = DateTime.formatIso(DateTime.makeUnsafe(yield* Clock.currentTimeMillis))
  yield* sql.unsafe(`comment on table control_meta is '${commentPrefix}${at}'`).pipe(
    Effect.catchCause(() =>
      Effect.logWarning(
        "cannot store the time of this backup in the database: control doctor reports an older one; " +
          "the role of DATABASE_URL must own the table control_meta"
      )
    )
  )
})

const commentPrefix = "last backup: "

const readLastBackupAt = (sql: SqlClient.SqlClient): Effect.Effect<Option.Option<string>> =>
  sql<{ note: string | null }>`select obj_description(to_regclass('control_meta'), 'pg_class') as note`.pipe(
    Effect.map(([row]) =>
      Option.fromNullishOr(row?.note).pipe(
        Option.filter((note) => note.startsWith(commentPrefix)),
        Option.map((note) => note.slice(commentPrefix.length))
      )
    ),
    Effect.catchCause(() => Effect.succeedNone)
  )
