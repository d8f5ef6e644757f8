/** Lists in pages that stay right while rows come and go: each page begins after the last row of the one before. */
import type { Page, PageRequest, Place } from "#schema/resources.ts"
import { Array, Effect, type Result, Schema } from "effect"
import type { SqlClient } from "effect/sql"
import { atEdge } from "./sql.ts"
import type { UnreadableRow } from "./UnreadableRow.ts"

/** SQL of our own, never input: what to show of which rows, ordered by when (a `timestamptz`), then by a unique text. */
export interface Listed {
  readonly columns: string
  readonly from: string
  readonly when: string
  readonly key: string
}

/** Reads pages of these rows. Other applications write rows too: one that cannot be read is told beside the items. */
export const keysetPages = <A>(
  sql: SqlClient.SqlClient,
  { columns, from, when, key }: Listed,
  read: (row: Readonly<Record<string, unknown>>) => Result.Result<A, UnreadableRow>
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
    const [items, unreadable] = Array.partition(shown, read)
    const leftOut = unreadable.map(({ entity, id, reason }) => ({ entityType: entity, entityId: id, reason }))
    const page: Page<A> = {
      items,
      nextCursor: last === undefined ? null : placeOf(last),
      ...(leftOut.length === 0 ? {} : { leftOut })
    }
    return page
  })
}

/** What a cursor can express: the years 1685 to 2255. */
const farthest = 8_999_999_999_999_999

/** The place of a row; null when nothing but rows of an impossible time can follow. */
function placeOf(row: unknown): Place | null {
  const { place_id: id, place_micros: micros } = decodePlace(row)
  return micros > farthest ? null : { micros: Math.max(-farthest, Math.round(micros)), id }
}

const decodePlace = Schema.decodeUnknownSync(Schema.Struct({ place_micros: Schema.Number, place_id: Schema.String }))
