/** What a whole reading consists of: every row as a change of its own, and what the latest changes touched. */
import * as History from "#network/History.ts"
import { AgentId, GatewayId, Revision, TunnelId } from "#schema/ids.ts"
import { Schema } from "effect"

/** `$1` is the revision that all of them are as of. */
export const everyRow = [
  ["agent", "agents", "id"],
  ["gateway", "gateways", "id"],
  ["tunnel", "tunnels", "id"],
  ["certificate", "certificates", "domain"],
  ["key", "api_keys", "id"]
].map(([entity, table, key]) =>
  `select $1::float8 as revision, '${entity}' as entity, 'put' as op, ${key} as entity_id,
    control_row_image(to_jsonb(${table})) as row_image from ${table}`
).join(" union all ")

/** The newest first; a row more than is kept, to tell whether there are more. */
export const latestTouches = `
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

/** `oldest`: the first revision that the log still has, if it has any; `newest`: the revision that was read. */
export const historyOf = (
  rows: ReadonlyArray<unknown>,
  oldest: Revision | null,
  newest: Revision
): History.History => {
  const touches = decodeTouches(rows).toReversed()
  const first = touches[0]
  const isCut = rows.length >= History.capacity && first !== undefined
  const from = isCut ? first.revision : oldest === null ? newest : Math.max(0, oldest - 1)
  return History.of(Revision.make(from), isCut ? touches.slice(1) : touches)
}
