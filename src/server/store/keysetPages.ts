/** Keyset pagination: each page starts after the previous page's last row; concurrent writes shift nothing. */
import type { Page, PageCursor, PageRequest } from "#schema/pagination.ts"
import { Array, Effect, type Result, Schema } from "effect"
import type { SqlClient, Statement } from "effect/sql"
import { withStoreErrors } from "./sql.ts"
import type { UnreadableRow } from "./UnreadableRow.ts"

/**
 * SQL fragments of a list. They must never contain input. Rows are ordered by `orderBy`, a `timestamptz` expression, and
 * then by `key`, a unique text expression.
 */
export interface KeysetQuery {
  readonly columns: string
  readonly from: string
  readonly orderBy: string
  readonly key: string
}

/**
 * Makes a function that reads one page of the rows that meet the conditions of a filter. Rows that `read` cannot decode are
 * reported next to the items.
 */
export const keysetPages = <A, F extends object = {}>(
  sql: SqlClient.SqlClient,
  { columns, from, orderBy, key }: KeysetQuery,
  read: (row: Readonly<Record<string, unknown>>) => Result.Result<A, UnreadableRow>,
  conditionsOf: (filter: Partial<F>) => ReadonlyArray<Statement.Fragment> = () => []
) => {
  const select = sql.literal(`select ${columns}, ${key} as cursor_id,
    (extract(epoch from ${orderBy}) * 1000000)::float8 as cursor_micros from ${from}`)
  const order = sql.literal(`order by ${orderBy}, ${key}`)
  const cursor = sql.literal(`(${orderBy}, ${key})`)

  return Effect.fnUntraced(function*({ after, limit }: PageRequest, filter: Partial<F> = {}) {
    const isLater = after === undefined ? [] : [sql`${cursor} >
      (timestamptz 'epoch' + ${after.micros}::float8 * interval '1 microsecond', ${after.id}::text)`]
    const where = sql.and([...conditionsOf(filter), ...isLater])
    const rows = yield* withStoreErrors(sql`${select} where ${where} ${order} limit ${limit + 1}`)
    // One row more than the page shows whether a next page exists.
    const pageRows = rows.slice(0, limit)
    const last = rows.length > limit ? pageRows.at(-1) : undefined
    const [items, unreadableRows] = Array.partition(pageRows, read)
    const unreadable = unreadableRows.map(({ entity, id, reason }) => ({ entityType: entity, entityId: id, reason }))
    const page: Page<A> = {
      items,
      nextCursor: last === undefined ? null : cursorOf(last),
      ...(unreadable.length === 0 ? {} : { unreadable })
    }
    return page
  })
}

/** Largest absolute value of a cursor, in microseconds since 1970: it covers the years 1685 to 2255. */
const maxCursorMicros = 8_999_999_999_999_999

/** The cursor after a row; null if only rows with times after the year 2255 can follow. */
function cursorOf(row: unknown): PageCursor | null {
  const { cursor_id: id, cursor_micros: micros } = decodeCursor(row)
  return micros > maxCursorMicros ? null : { micros: Math.max(-maxCursorMicros, Math.round(micros)), id }
}

const decodeCursor = Schema.decodeUnknownSync(Schema.Struct({ cursor_micros: Schema.Number, cursor_id: Schema.String }))
