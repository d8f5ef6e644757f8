/** Replaces the content of the database with a backup, in one transaction. */
import type { Cipher } from "#crypto/Cipher.ts"
import { Revision, Timeline } from "#schema/ids.ts"
import { Cause, Context, Effect, Layer, Option, Schema } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { BackupUnusable } from "./BackupUnusable.ts"
import { type BackupRow, type BackupSummary, forEachRowBatch, verifyBackup } from "./file.ts"
import { isSignedWith, readSignature } from "./signature.ts"
import { backupTables } from "./tables.ts"
import { dropNameIndexes, makeNamesUnique, uniqueNamesVersion } from "#store/migrations/0012_unique_names.ts"
import { giveFirstPorts, tunnelPortsVersion } from "#store/migrations/0017_tunnel_ports.ts"
import { timelineExpression } from "#store/logPosition.ts"
import { schemaVersion } from "#store/Database.ts"
import { describeSqlError, violatedConstraint } from "#store/sql.ts"

/** The database has rows, and the caller has not asked to replace them. */
export class DatabaseNotEmpty extends Schema.TaggedError<DatabaseNotEmpty>()("DatabaseNotEmpty", {
  rows: Schema.Record(Schema.String, Schema.Int)
}) {
  override get message(): string {
    const counts = Object.entries(this.rows).filter(([, count]) => count > 0).map(([table, count]) =>
      `${count} ${table}`
    )
    return `the database is not empty: it has ${counts.join(", ")}; use --replace to replace all of its data`
  }
}

/** The restore failed and was rolled back; the database is unchanged. */
export class RestoreFailed extends Schema.TaggedError<RestoreFailed>()("RestoreFailed", { reason: Schema.String }) {
  override get message(): string {
    return `the restore was rolled back: ${this.reason}`
  }
}

/** The number of restored rows by table, and the first position of the new timeline. */
export interface RestoreResult {
  readonly rows: Readonly<Record<string, number>>
  readonly revision: Revision
  readonly timeline: Timeline
}

/** Restores backups. */
export class Restore extends Context.Service<Restore, {
  /** Replaces every row of the database with those of the file. Without `replace`, the database must be empty. */
  restore(file: string, cipher: Cipher, options: CheckOptions & { readonly replace: boolean }): Effect.Effect<
    RestoreResult,
    BackupUnusable | DatabaseNotEmpty | RestoreFailed
  >
}>()("control/store/backup/Restore") {
  static readonly layer = Layer.effect(
    Restore,
    Effect.map(SqlClient.SqlClient, (sql) =>
      Restore.of({
        restore: Effect.fn("Restore.restore")(function*(file, cipher, { acceptUnsigned, replace }) {
          const summary = yield* checkBackup(file, cipher, { acceptUnsigned })
          return yield* sql.withTransaction(Effect.gen(function*() {
            yield* lockTables(sql)
            const rows = yield* countRows(sql)
            if (!replace && Object.values(rows).some((count) => count > 0)) {
              return yield* new DatabaseNotEmpty({ rows })
            }
            // A backup that is older than the unique index can have duplicates.
            const mayHaveDuplicates = summary.header.schema < uniqueNamesVersion
            if (mayHaveDuplicates) yield* dropNameIndexes(sql)
            yield* withTriggersDisabled(sql, withLaterChecks(sql, replaceRows(sql, file, summary)))
            if (mayHaveDuplicates) yield* makeNamesUnique(sql)
            yield* sql`set constraints all immediate`
            return { rows: summary.rows, ...yield* startTimeline(sql, summary, cipher) }
          })).pipe(Effect.catchCause((cause) => Effect.fail(failure(cause))))
        })
      }))
  )
}

interface CheckOptions {
  /** Also restores a file without a signature. */
  readonly acceptUnsigned: boolean
}

/**
 * Checks a backup without a database: it is signed with a key of the cipher and complete, and `restore` accepts its rows.
 * The signature is checked before anything else of the file is read.
 */
export const checkBackup = Effect.fn("checkBackup")(function*(file: string, cipher: Cipher, options: CheckOptions) {
  yield* checkSignature(file, cipher, options)
  return yield* checkSummary(file, yield* verifyBackup(file), cipher)
})

const checkSignature = Effect.fnUntraced(function*(file: string, cipher: Cipher, { acceptUnsigned }: CheckOptions) {
  const unusable = (reason: string) => new BackupUnusable({ file, reason })
  const signature = Option.getOrUndefined(yield* readSignature(file))
  if (signature === undefined) {
    if (acceptUnsigned) return
    return yield* unusable(
      "it is not signed: it is no backup of Control, its end is missing, or an older version or a machine without the " +
        "master key has made it; if you know where it comes from, add --accept-unsigned, because its rows can include " +
        "API keys and admin tokens of a stranger"
    )
  }
  const signer = cipher.forWritingKey(signature.keyId)
  if (signer === undefined) return yield* unusable(foreignKey("signed", signature.keyId, cipher))
  if (!(yield* isSignedWith(file, signature, signer))) {
    return yield* unusable(
      `the file was altered or damaged: its signature with master key ${signer.keyId} does not match`
    )
  }
})

const foreignKey = (what: "encrypted" | "signed", keyId: string, { readableIds }: Cipher) =>
  `the backup is ${what} under master key ${keyId}, but the one given is ${[...readableIds].join(", ")}: ` +
  "set CONTROL_MASTER_KEY_FILE or CONTROL_MASTER_KEYS_OLD, or put the key into the file master-key in the data directory"

/** Checks that this version supports the schema of a complete backup, and that the cipher decrypts its values. */
const checkSummary = Effect.fnUntraced(function*(file: string, summary: BackupSummary, cipher: Cipher) {
  const unusable = (reason: string) => new BackupUnusable({ file, reason })
  if (summary.header.schema > schemaVersion) {
    return yield* unusable(
      `the backup has schema version ${summary.header.schema}, but this version of Control supports at most ` +
        `${schemaVersion}: restore it with a newer Control`
    )
  }
  const { header: { masterKey }, keyIds } = summary
  const foreign = [...masterKey === null ? [] : [masterKey], ...keyIds].find((id) => !cipher.readableIds.has(id))
  if (foreign !== undefined) return yield* unusable(foreignKey("encrypted", foreign, cipher))
  const table = Object.keys(summary.rows).find((table) => !tables.includes(table))
  if (table !== undefined)
    return yield* unusable(`the backup has rows of table ${table}, which this version of Control does not know`)
  return summary
})

const tables = backupTables.map(({ table }) => table)

/**
 * Locks tables in the order of other writers, with the revision counter last, so that no deadlock occurs. Readers continue.
 */
const lockTables = Effect.fnUntraced(function*(sql: SqlClient.SqlClient) {
  yield* sql`set local statement_timeout = '10min'`
  yield* sql`set local idle_in_transaction_session_timeout = '60s'`
  yield* sql`set local lock_timeout = '20s'`
  yield* sql.unsafe(`lock table ${[...tables, "control_meta"].join(", ")} in share row exclusive mode`)
})

const countRows = Effect.fnUntraced(function*(sql: SqlClient.SqlClient) {
  const counts: Record<string, number> = {}
  for (const table of tables) {
    const [row] = yield* sql.unsafe<{ count: number }>(`select count(*)::int as count from ${table}`)
    counts[table] = row?.count ?? 0
  }
  return counts
})

/** Disables the triggers, because restored rows are not changes of this timeline. The owner of the tables has this right. */
const withTriggersDisabled = <E, R>(sql: SqlClient.SqlClient, work: Effect.Effect<void, E, R>) =>
  Effect.gen(function*() {
    const alterAll = (action: "disable" | "enable") =>
      Effect.forEach(tables, (table) => sql.unsafe(`alter table ${table} ${action} trigger user`), { discard: true })
    yield* alterAll("disable")
    yield* work
    yield* alterAll("enable")
  })

/**
 * Repeats the work without the checks that exempt older rows ("not valid") if one of these checks has failed. Only then,
 * because dropping a check blocks readers of its table.
 */
const withLaterChecks = (
  sql: SqlClient.SqlClient,
  work: Effect.Effect<void, BackupUnusable | SqlError.SqlError>
) =>
  Effect.catchTag(sql.withTransaction(work), "SqlError", (error) =>
    Effect.gen(function*() {
      const checks = yield* sql<{ table: string; name: string; definition: string }>`
        select conrelid::regclass::text as table, conname as name, pg_get_constraintdef(oid) as definition
        from pg_constraint where connamespace = current_schema()::regnamespace and contype = 'c' and not convalidated`
      if (!checks.some(({ name }) => name === violatedConstraint(error))) return yield* Effect.fail(error)
      for (const { name, table } of checks) yield* sql.unsafe(`alter table ${table} drop constraint "${name}"`)
      yield* work
      for (const { definition, name, table } of checks) {
        yield* sql.unsafe(`alter table ${table} add constraint "${name}" ${definition}`)
      }
    }))

const replaceRows = Effect.fnUntraced(
  function*(sql: SqlClient.SqlClient, file: string, summary: BackupSummary) {
    for (const table of tables.toReversed()) yield* sql.unsafe(`delete from ${table}`)
    const columns = new Map<string, ReadonlyArray<string>>()
    for (const table of tables) columns.set(table, yield* readColumns(sql, table))
    yield* forEachRowBatch(
      file,
      summary,
      (table, rows) => insertBatch(sql, file, { table, rows, columns: columns.get(table) })
    )
    for (const table of tables) yield* advanceSequences(sql, table, columns.get(table) ?? [])
    if (summary.header.schema < tunnelPortsVersion) yield* giveFirstPorts(sql)
    yield* sql`select control_collect_wireguard_keys()`
  }
)

const readColumns = (sql: SqlClient.SqlClient, table: string) =>
  Effect.map(
    sql<{ name: string }>`select column_name as name from information_schema.columns
      where table_schema = current_schema() and table_name = ${table} and is_generated = 'NEVER'`,
    (rows) => rows.map(({ name }) => name)
  )

interface Batch {
  readonly table: string
  readonly rows: ReadonlyArray<BackupRow["row"]>
  /** Columns of the table; undefined if the database has no such table. */
  readonly columns: ReadonlyArray<string> | undefined
}

/** Columns that an older backup does not have get their defaults. */
const insertBatch = Effect.fnUntraced(
  function*(sql: SqlClient.SqlClient, file: string, { columns, rows, table }: Batch) {
    // The file was checked before, but another process can have changed it since.
    if (columns === undefined)
      return yield* new BackupUnusable({ file, reason: "the file was changed while it was read" })
    const columnNames = Object.keys(rows[0] ?? {})
    const unknown = columnNames.find((name) => !columns.includes(name))
    if (unknown !== undefined) {
      return yield* new BackupUnusable({
        file,
        reason: `its table ${table} has a column ${unknown} that the database does not have`
      })
    }
    const names = columnNames.map((name) => `"${name}"`).join(", ")
    yield* sql.unsafe(
      `insert into ${table} (${names}) overriding system value
     select ${names} from jsonb_populate_recordset(null::${table}, $1::jsonb)`,
      [JSON.stringify(rows)]
    )
  }
)

/**
 * Restarts each sequence after the largest restored id and after its own last value. `setval` is unsuitable, because it
 * survives a rollback, after which a live server would assign ids that its rows already have.
 */
const advanceSequences = Effect.fnUntraced(
  function*(sql: SqlClient.SqlClient, table: string, columns: ReadonlyArray<string>) {
    for (const column of columns) {
      const [sequence] = yield* sql<{ name: string | null }>`select pg_get_serial_sequence(${table}, ${column}) as name`
      if (sequence === undefined || sequence.name === null) continue
      const [next] = yield* sql.unsafe<{ number: string }>(
        `select (greatest((select max("${column}") from ${table}), (select last_value from ${sequence.name})) + 1)::text
           as number`
      )
      if (next !== undefined) yield* sql.unsafe(`alter sequence ${sequence.name} restart with ${next.number}`)
    }
  }
)

/**
 * Starts a new timeline, so that no reader of the old history continues here, and keeps the larger revision, so that no
 * revision is reused. Accepts the loss of rows that the backup lacks, so that the loss guard of no node holds the update
 * back.
 */
const startTimeline = Effect.fnUntraced(function*(
  sql: SqlClient.SqlClient,
  { header, keyIds }: BackupSummary,
  cipher: Cipher
) {
  yield* sql`delete from changes`
  // The writing key stays unless its master key is missing. A serving node re-encrypts the values of the backup.
  yield* sql`update control_meta set timeline = gen_random_uuid()::text, revision = greatest(revision, ${header.revision}),
    master_key_id = case when master_key_id = any (${[...cipher.readableIds]}::text[]) then master_key_id
      else ${cipher.keyId} end`
  yield* sql`update control_meta set
    rotating_from = array(select unnest(${[...keyIds]}::text[]) except select master_key_id)`
  const [history] = decodeHistory(
    yield* sql.unsafe(
      `update control_meta m set accepted_timeline = ${timelineExpression}, accepted_revision = revision
       returning accepted_timeline as timeline, revision::float8 as revision`
    )
  )
  yield* sql`insert into audit (actor, entity, op, entity_id, revision)
    values ('restore', 'network', 'update', ${history.timeline}, ${history.revision})`
  yield* sql`select pg_notify('control_changes', '')`
  return history
})

const decodeHistory = Schema.decodeUnknownSync(
  Schema.Tuple([Schema.Struct({ timeline: Timeline, revision: Revision })])
)

function failure<E>(cause: Cause.Cause<E | SqlError.SqlError>): Exclude<E, SqlError.SqlError> | RestoreFailed {
  const error = Cause.squash(cause)
  if (error instanceof BackupUnusable || error instanceof DatabaseNotEmpty) {
    return error as unknown as Exclude<E, SqlError.SqlError>
  }
  return new RestoreFailed({ reason: describeSqlError(cause) })
}
