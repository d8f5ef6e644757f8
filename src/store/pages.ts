/** Lists in pages that stay right while rows come and go: each page begins after the last row of the one before. */
import type { Page, PageRequest } from "#schema/resources.ts"
import { Effect, Schema } from "effect"
import type { SqlClient } from "effect/sql"
import { atEdge } from "./sql.ts"

/** SQL of our own, never input: what to show of which rows, ordered by when (a `timestamptz`), then by a unique text. */
export interface Listed {
  readonly columns: string
  readonly from: string
  readonly when: string
  readonly key: string
}

/** Reads pages of these rows; `decode` makes items of them, one each. */
export const pagesOf = <A>(
  sql: SqlClient.SqlClient,
  { columns, from, when, key }: Listed,
  decode: (rows: ReadonlyArray<object>) => ReadonlyArray<A>
) => {
  const selected = sql.literal(`select ${columns}, ${key} as place_id,
    (extract(epoch from ${when}) * 1000000)::float8 as place_micros from ${from}`)
  const order = sql.literal(`order by ${when}, ${key}`)
  const place = sql.literal(`(${when}, ${key})`)

  return Effect.fnUntraced(function*({ after, limit }: PageRequest) {
    const where = after === undefined ? sql.literal("") : sql`where ${place} >
      (timestamptz 'epoch' + ${after.micros}::float8 * interval '1 microsecond', ${after.id}::text)`
    const rows = yield* atEdge(sql`${selected} ${where} ${order} limit ${limit + 1}`)
    const shown = rows.slice(0, limit)
    const last = rows.length > limit ? shown.at(-1) : undefined
    const page: Page<A> = { items: decode(shown), nextCursor: last === undefined ? null : decodePlace(last) }
    return page
  })
}

const Place = Schema.Struct({ place_micros: Schema.Int, place_id: Schema.String })
const decodeRow = Schema.decodeUnknownSync(Place)

function decodePlace(row: unknown) {
  const { place_id: id, place_micros: micros } = decodeRow(row)
  return { micros, id }
}
