/** Allocates the lowest free subnet index or gateway slot. */
import { Effect, Schema } from "effect"
import type { SqlClient } from "effect/sql"
import { advisoryLockNamespace, advisoryLocks } from "./advisoryLocks.ts"

const numberColumns = {
  agents: { column: "subnet_index", lock: advisoryLocks.subnetAllocation },
  gateways: { column: "slot", lock: advisoryLocks.slotAllocation }
} as const

/**
 * The lowest number, at least `from`, that no row of the table uses. Must run inside the transaction that inserts the row.
 * An advisory lock serializes callers until that transaction ends, so that no two get the same number.
 */
export const lowestFreeNumber = Effect.fnUntraced(
  function*(sql: SqlClient.SqlClient, table: keyof typeof numberColumns, from: number) {
    const { column, lock } = numberColumns[table]
    yield* sql`select pg_advisory_xact_lock(${advisoryLockNamespace}::int, ${lock}::int)`
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
