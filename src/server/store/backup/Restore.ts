/** Puts a backup in the place of what the database has, in one transaction: all of it, or nothing has happened. */
import type { Cipher } from "#crypto/Cipher.ts"
import { Revision, Timeline } from "#schema/ids.ts"
import { Cause, Context, Effect, Layer, Schema } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { type BackupRow, type BackupSummary, BackupUnusable, rowsOfBackup, verifyBackup } from "./file.ts"
import { backedUp } from "./tables.ts"
import { historyName } from "#store/ChangeLog.ts"
import { schemaVersion } from "#store/Database.ts"
import { describeSqlError } from "#store/sql.ts"

/** There is something already, and nobody has said that it is to be replaced. */
export class DatabaseNotEmpty extends Schema.TaggedError<DatabaseNotEmpty>()("DatabaseNotEmpty", {
  rows: Schema.Record(Schema.String, Schema.Int)
}) {
  override get message(): string {
    const there = Object.entries(this.rows).filter(([, count]) => count > 0).map(([table, count]) =>
      `${count} ${table}`
    )
    return `the database is not empty: it has ${there.join(", ")}. To replace all of it, say --replace`
  }
}

/** The transaction was rolled back: the database is as it was. */
export class RestoreFailed extends Schema.TaggedError<RestoreFailed>()("RestoreFailed", { reason: Schema.String }) {
  override get message(): string {
    return `nothing was restored: ${this.reason}`
  }
}

export interface Restored {
  readonly rows: Readonly<Record<string, number>>
  readonly revision: Revision
  readonly timeline: Timeline
}

export class Restore extends Context.Service<Restore, {
  /** Everything in the database becomes what the file says; a database that is not empty only if `replace` says so. */
  restore(file: string, cipher: Cipher, options: { readonly replace: boolean }): Effect.Effect<
    Restored,
    BackupUnusable | DatabaseNotEmpty | RestoreFailed
  >
}>()("control/store/backup/Restore") {
  static readonly layer = Layer.effect(
    Restore,
    Effect.map(SqlClient.SqlClient, (sql) =>
      Restore.of({
        restore: Effect.fn("Restore.restore")(function*(file, cipher, { replace }) {
          const summary = yield* checkBackup(file, cipher)
          return yield* sql.withTransaction(Effect.gen(function*() {
            yield* locked(sql)
            const there = yield* rowsThere(sql)
            if (!replace && Object.values(there).some((count) => count > 0)) {
              return yield* new DatabaseNotEmpty({ rows: there })
            }
            yield* silently(sql, replaceRows(sql, file, summary))
            yield* sql`set constraints all immediate`
            return { rows: summary.rows, ...yield* beginHistory(sql, summary, cipher) }
          })).pipe(Effect.catchCause((cause) => Effect.fail(failure(cause))))
        })
      }))
  )
}

/** What can be told before a database is touched: the file is whole, this version knows its rows, and the key opens them. */
export const checkBackup = Effect.fn("checkBackup")(function*(file: string, cipher: Cipher) {
  const summary = yield* verifyBackup(file)
  const unusable = (reason: string) => new BackupUnusable({ file, reason })
  if (summary.header.schema > schemaVersion) {
    return yield* unusable(
      `it has schema version ${summary.header.schema}, but this version of Control knows only ${schemaVersion}: ` +
        "restore it with a newer Control"
    )
  }
  const { header: { masterKey }, keyIds } = summary
  const foreign = [...masterKey === null ? [] : [masterKey], ...keyIds].find((id) => !cipher.readableIds.has(id))
  if (foreign !== undefined) {
    return yield* unusable(
      `it is encrypted under master key ${foreign}, but the one given is ${[...cipher.readableIds].join(", ")}: ` +
        "give the right one as CONTROL_MASTER_KEY_FILE, in CONTROL_MASTER_KEYS_OLD, or as the file master-key in the data directory"
    )
  }
  const known = new Set(backedUp.map(({ table }) => table))
  const table = Object.keys(summary.rows).find((table) => !known.has(table))
  if (table !== undefined)
    return yield* unusable(`it has rows of ${table}, which this version of Control does not know`)
  return summary
})

const tables = backedUp.map(({ table }) => table)

/** In the order in which writers come by them, the counter last; readers go on. */
const locked = Effect.fnUntraced(function*(sql: SqlClient.SqlClient) {
  yield* sql`set local statement_timeout = '10min'`
  yield* sql`set local idle_in_transaction_session_timeout = '60s'`
  yield* sql`set local lock_timeout = '20s'`
  yield* sql.unsafe(`lock table ${[...tables, "control_meta"].join(", ")} in share row exclusive mode`)
})

const rowsThere = Effect.fnUntraced(function*(sql: SqlClient.SqlClient) {
  const counts: Record<string, number> = {}
  for (const table of tables) {
    const [row] = yield* sql.unsafe<{ count: number }>(`select count(*)::int as count from ${table}`)
    counts[table] = row?.count ?? 0
  }
  return counts
})

/** Restored rows are no changes of this history: its triggers do not see them, and the owner of the tables may say so. */
const silently = <E, R>(sql: SqlClient.SqlClient, work: Effect.Effect<void, E, R>) =>
  Effect.gen(function*() {
    const all = (what: string) =>
      Effect.forEach(tables, (table) => sql.unsafe(`alter table ${table} ${what} trigger user`), { discard: true })
    yield* all("disable")
    yield* work
    yield* all("enable")
  })

const replaceRows = Effect.fnUntraced(
  function*(sql: SqlClient.SqlClient, file: string, summary: BackupSummary) {
    for (const table of tables.toReversed()) yield* sql.unsafe(`delete from ${table}`)
    const columns = new Map<string, ReadonlyArray<string>>()
    for (const table of tables) columns.set(table, yield* columnsOf(sql, table))
    yield* rowsOfBackup(
      file,
      summary,
      (table, rows) => insert(sql, file, { table, rows, columns: columns.get(table) ?? [] })
    )
    for (const table of tables) yield* advanceSequences(sql, table, columns.get(table) ?? [])
  }
)

const columnsOf = (sql: SqlClient.SqlClient, table: string) =>
  Effect.map(
    sql<{ name: string }>`select column_name as name from information_schema.columns
      where table_schema = current_schema() and table_name = ${table} and is_generated = 'NEVER'`,
    (rows) => rows.map(({ name }) => name)
  )

interface Batch {
  readonly table: string
  readonly rows: ReadonlyArray<BackupRow["row"]>
  readonly columns: ReadonlyArray<string>
}

/** What an older version did not have yet gets the column's default. */
const insert = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, file: string, { columns, rows, table }: Batch) {
  const given = Object.keys(rows[0] ?? {})
  const unknown = given.find((name) => !columns.includes(name))
  if (unknown !== undefined) {
    return yield* new BackupUnusable({
      file,
      reason: `its ${table} have a column ${unknown} that the database does not`
    })
  }
  const names = given.map((name) => `"${name}"`).join(", ")
  yield* sql.unsafe(
    `insert into ${table} (${names}) overriding system value
     select ${names} from jsonb_populate_recordset(null::${table}, $1::jsonb)`,
    [JSON.stringify(rows)]
  )
})

/**
 * What is numbered goes on after the last that was restored, and after the last that was there. `setval` would outlive a
 * rollback, and a live server would then give out numbers that its rows have.
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
 * Nobody who knows the old history may take this for its continuation, and no number is given out twice. Whoever restores
 * a backup means it: what is missing from it is accepted, so no node holds it back.
 */
const beginHistory = Effect.fnUntraced(function*(
  sql: SqlClient.SqlClient,
  { header, keyIds }: BackupSummary,
  cipher: Cipher
) {
  yield* sql`delete from changes`
  // What is written under stays, unless its key is lost; what the backup is encrypted under is encrypted anew by whoever serves.
  yield* sql`update control_meta set timeline = gen_random_uuid()::text, revision = greatest(revision, ${header.revision}),
    master_key_id = case when master_key_id = any (${[...cipher.readableIds]}::text[]) then master_key_id
      else ${cipher.keyId} end`
  yield* sql`update control_meta set
    rotating_from = array(select unnest(${[...keyIds]}::text[]) except select master_key_id)`
  const [history] = decodeHistory(
    yield* sql.unsafe(
      `update control_meta m set accepted_timeline = ${historyName}, accepted_revision = revision
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
