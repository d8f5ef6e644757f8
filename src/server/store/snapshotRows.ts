/** Rows of a network snapshot in pages, and the entities that recent changes touched. */
import * as History from "#network/History.ts"
import { AgentId, GatewayId, Revision, TunnelId } from "#schema/ids.ts"
import { Effect, Fiber, Schema } from "effect"
import type { SqlClient } from "effect/sql"

interface RowSource {
  readonly entity: string
  readonly table: string
  readonly key: string
  /** SQL: the rows that belong to the network. Default: all. */
  readonly condition?: string
  /** Bounds the memory of one page, and the time for which decoding it delays heartbeats. */
  readonly pageSize: number
}

/** Agents and gateways come before tunnels, as in the change log. */
const rowSources: ReadonlyArray<RowSource> = [
  { entity: "agent", table: "agents", key: "id", pageSize: 1_000 },
  { entity: "gateway", table: "gateways", key: "id", pageSize: 1_000 },
  { entity: "tunnel", table: "tunnels", key: "id", pageSize: 1_000 },
  // A chain with its key can have 100 kB.
  { entity: "certificate", table: "certificates", key: "domain", condition: "withheld is not true", pageSize: 200 },
  { entity: "key", table: "api_keys", key: "id", pageSize: 1_000 }
]

export type SnapshotRow = Readonly<Record<string, unknown>>

/** Number of rows that `forEachRowPage` reads. */
export const countRowsQuery = `select (${
  rowSources.map(({ condition = "true", table }) => `(select count(*) from ${table} where ${condition})`).join(" + ")
})::int as total`

/** Reads every row, in the format of the change log, page by page in the current transaction. */
export const forEachRowPage = <E, R>(
  sql: SqlClient.SqlClient,
  revision: Revision,
  use: (rows: ReadonlyArray<SnapshotRow>) => Effect.Effect<void, E, R>
) =>
  Effect.forEach(rowSources, ({ condition = "true", entity, key, pageSize, table }) =>
    forEachPage(sql, {
      name: "network_rows",
      pageSize,
      query: `select ${revision}::float8 as revision, '${entity}' as entity, 'put' as op, ${key} as entity_id,
        control_row_image(to_jsonb(${table})) as row_image from ${table} where ${condition}`
    }, use), { discard: true })

interface PagedQuery {
  /** Name of the cursor. The prepared `fetch` of a name returns the same columns for every query. */
  readonly name: string
  readonly pageSize: number
  readonly query: string
}

/**
 * Reads the rows of a query with a cursor of the current transaction. The database prepares the next page while `use` works on
 * one, so that at most two pages are in memory.
 */
const forEachPage = Effect.fnUntraced(function*<E, R>(
  sql: SqlClient.SqlClient,
  { name, pageSize, query }: PagedQuery,
  use: (rows: ReadonlyArray<SnapshotRow>) => Effect.Effect<void, E, R>
) {
  yield* sql.unsafe(`declare ${name} no scroll cursor for ${query}`)
  const fetchPage = Effect.forkChild(sql.unsafe<SnapshotRow>(`fetch ${pageSize} from ${name}`), {
    startImmediately: true
  })
  let fetching = yield* fetchPage
  let isLast = false
  while (!isLast) {
    const rows = yield* Fiber.join(fetching)
    isLast = rows.length < pageSize
    if (!isLast) fetching = yield* fetchPage
    yield* use(rows)
  }
  yield* sql.unsafe(`close ${name}`)
})

/**
 * The entities that recent changes touched, newest first. The limit exceeds the stored history by one row, to detect more.
 */
const recentTouchesQuery = `
  select revision::float8 as revision, entity, entity_id as id, own, renumbered,
    array_remove(array[old_agent_id, case when entity = 'tunnel' then row_image ->> 'agent_id' end], null) as agents
  from changes where entity <> 'key' order by revision desc limit ${History.capacity}`

const touch = { revision: Revision, own: Schema.Boolean, renumbered: Schema.Boolean, agents: Schema.Array(AgentId) }
const Touch = Schema.Union([
  Schema.Struct({ entity: Schema.Literal("agent"), id: AgentId, ...touch }),
  Schema.Struct({ entity: Schema.Literal("gateway"), id: GatewayId, ...touch }),
  Schema.Struct({ entity: Schema.Literal("tunnel"), id: TunnelId, ...touch }),
  Schema.Struct({ entity: Schema.Literal("certificate"), id: Schema.String, ...touch })
])
const decodeTouches = Schema.decodeUnknownSync(Schema.Array(Touch))

/** Reads the history in pages of the current transaction. The arguments are those of `decodeHistory`. */
export const readHistory = Effect.fnUntraced(
  function*(sql: SqlClient.SqlClient, oldest: Revision | null, newest: Revision, step: Effect.Effect<void>) {
    const rows: Array<SnapshotRow> = []
    yield* forEachPage(sql, { name: "recent_touches", pageSize: 1_000, query: recentTouchesQuery }, (page) => {
      rows.push(...page)
      return step
    })
    return decodeHistory(rows, oldest, newest)
  }
)

/** `oldest` is the first revision in the log, null for an empty log. `newest` is the revision of the snapshot. */
export const decodeHistory = (
  rows: ReadonlyArray<unknown>,
  oldest: Revision | null,
  newest: Revision
): History.History => {
  const touches = decodeTouches(rows).toReversed()
  const first = touches[0]
  const isTruncated = rows.length >= History.capacity && first !== undefined
  const from = isTruncated ? first.revision : oldest === null ? newest : Math.max(0, oldest - 1)
  return History.fromEntries(Revision.make(from), isTruncated ? touches.slice(1) : touches)
}
