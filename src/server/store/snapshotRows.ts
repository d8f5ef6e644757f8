/** Queries of a network snapshot: all rows, and the entities that recent changes touched. */
import * as History from "#network/History.ts"
import { AgentId, GatewayId, Revision, TunnelId } from "#schema/ids.ts"
import { Schema } from "effect"

/** Every row in the format of the change log. `$1` is the revision of the snapshot. */
export const allRowsQuery = [
  ["agent", "agents", "id"],
  ["gateway", "gateways", "id"],
  ["tunnel", "tunnels", "id"],
  ["certificate", "certificates", "domain"],
  ["key", "api_keys", "id"]
].map(([entity, table, key]) =>
  `select $1::float8 as revision, '${entity}' as entity, 'put' as op, ${key} as entity_id,
    control_row_image(to_jsonb(${table})) as row_image from ${table}`
).join(" union all ")

/**
 * The entities that recent changes touched, newest first. The limit exceeds the stored history by one row, to detect more.
 */
export const recentTouchesQuery = `
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
