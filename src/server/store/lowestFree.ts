/** Small numbers that are given out once and used again when they are free. */
import { Effect, Schema } from "effect"
import type { SqlClient } from "effect/sql"
import { locks, lockSpace } from "./advisoryLocks.ts"

const numbered = {
  agents: { column: "subnet_index", lock: locks.subnets },
  gateways: { column: "slot", lock: locks.slots }
} as const

/**
 * The lowest number from `from` on that no row has. To be called inside a transaction: whoever else asks waits until it
 * has ended, so two never get the same.
 */
export const lowestFree = Effect.fnUntraced(
  function*(sql: SqlClient.SqlClient, table: keyof typeof numbered, from: number) {
    const { column, lock } = numbered[table]
    yield* sql`select pg_advisory_xact_lock(${lockSpace}::int, ${lock}::int)`
    const taken = sql(column)
    const rows = yield* sql`
    select candidate from (
      select ${from}::int as candidate union all select ${taken} + 1 from ${
      sql(table)
    } where ${taken} >= ${from}::int and ${taken} < 2147483647
    ) as candidates
    where not exists (select from ${sql(table)} where ${taken} = candidate) order by candidate limit 1`
    const [row] = decodeRows(rows)
    return row.candidate
  }
)

const decodeRows = Schema.decodeUnknownSync(Schema.NonEmptyArray(Schema.Struct({ candidate: Schema.Int })))
