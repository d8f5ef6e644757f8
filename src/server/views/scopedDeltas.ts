/** Diffs the views of scoped gateways, and of their agents, in the rows of a change. Pure. */
import type { AgentId, GatewayId, TunnelId } from "#schema/ids.ts"
import { Equal, HashMap, Option } from "effect"
import { type Delta, type DeltaContent, type MakeDelta, tunnelDeltaForGateways } from "./delta.ts"
import { namesCovering } from "#network/certificateNames.ts"
import { changedRow } from "#network/changedRow.ts"
import type { Change, Gateway, NetworkState, Tunnel } from "#network/NetworkState.ts"
import { agentsInScope, areConnected, scopedGateway, seesCertificate, servesTunnel } from "#network/scope.ts"
import * as BucketMap from "#network/BucketMap.ts"
import { tunnelsOfAgent } from "./view.ts"

/** The states before and after one change. */
interface States {
  readonly old: NetworkState
  readonly current: NetworkState
}

/** The difference of one gateway's view. */
type Diff = (gateway: Gateway) => ReadonlyArray<DeltaContent>

/** Called only if a gateway is scoped before or after the change; costs a few lookups for each scoped gateway. */
export const scopedDeltas = (
  old: NetworkState,
  current: NetworkState,
  change: Change,
  deltaFor: MakeDelta
): ReadonlyArray<Delta> => {
  const states = { old, current }
  const row = changedRow(change)
  switch (row.entityType) {
    case "agent":
      return forEachScoped(old, deltaFor, [agentDiff(states, row.entityId)])
    case "certificate":
      return forEachScoped(old, deltaFor, [certificateDiff(states, row.entityId)])
    case "tunnel":
      return tunnelDeltas(states, row.entityId, deltaFor)
    case "gateway":
      return gatewayDeltas(states, row.entityId, deltaFor)
    case "key":
      return []
  }
}

function forEachScoped(
  { scopeIndex }: NetworkState,
  deltaFor: MakeDelta,
  diffs: ReadonlyArray<Diff>
): ReadonlyArray<Delta> {
  if (scopeIndex === undefined) return []
  return HashMap.toValues(scopeIndex.gateways).flatMap((gateway) =>
    diffs.flatMap((diff) => diff(gateway)).map((content) => deltaFor(`gateway:${gateway.id}`, content))
  )
}

function agentDiff(states: States, id: AgentId): Diff {
  const [oldRow, currentRow] = rowsOf(states, ({ agents }) => BucketMap.get(agents, id))
  const tunnels = oldRow?.virtualIp === currentRow?.virtualIp ? [] : tunnelsOfAgent(states.current, id)
  return (gateway) => {
    const { after, before } = inView(states, oldRow, currentRow, (state) => areConnected(state, gateway, id))
    if (Equal.equals(before, after)) return []
    return [{ _tag: "Agent", movesTunnels: tunnels.some((tunnel) => servesTunnel(gateway, tunnel)), before, after }]
  }
}

function certificateDiff(states: States, name: string): Diff {
  const [oldRow, currentRow] = rowsOf(states, ({ certificates }) => BucketMap.get(certificates, name))
  return (gateway) => {
    const { after, before } = inView(states, oldRow, currentRow, (state) => seesCertificate(state, gateway, name))
    return Equal.equals(before, after) ? [] : [{ _tag: "Certificate", before, after }]
  }
}

/** A row in a gateway's view before and after the change; undefined where the gateway does not see it. */
function inView<Row>(
  { current, old }: States,
  oldRow: Row | undefined,
  currentRow: Row | undefined,
  isVisible: (state: NetworkState) => boolean
) {
  const isIn = isVisible(current)
  // Tunnels decide the visibility of agents and certificates, so it stays the same while no tunnel changes.
  const wasIn = old.tunnelsByAgent === current.tunnelsByAgent ? isIn : isVisible(old)
  return { before: wasIn ? oldRow : undefined, after: isIn ? currentRow : undefined }
}

function tunnelDiff({ current, old }: States, id: TunnelId): Diff {
  const [oldRow, currentRow] = [BucketMap.get(old.tunnels, id), BucketMap.get(current.tunnels, id)]
  return (gateway) => {
    const served = Option.filter((tunnel: Tunnel) => servesTunnel(gateway, tunnel))
    const content = tunnelDeltaForGateways(id, old, served(oldRow), current, served(currentRow))
    return content === undefined ? [] : [content]
  }
}

/** A tunnel brings its agent and its certificates into a scoped gateway's view, and the gateway into the agent's view. */
function tunnelDeltas(states: States, id: TunnelId, deltaFor: MakeDelta): ReadonlyArray<Delta> {
  const { current, old } = states
  const both = [old, current].flatMap(({ tunnels }) => Option.toArray(BucketMap.get(tunnels, id)))
  const agents = [...new Set(both.map(({ agentId }) => agentId))]
  const names = [...new Set(both.flatMap(({ domain }) => namesCovering(domain)))]
  const scoped = current.scopeIndex === undefined ? [] : HashMap.toValues(current.scopeIndex.gateways)
  return [
    ...forEachScoped(old, deltaFor, [
      tunnelDiff(states, id),
      ...agents.map((agent) => agentDiff(states, agent)),
      ...names.map((name) => certificateDiff(states, name))
    ]),
    ...scoped.flatMap(({ id }) => gatewayDiff(states, id, agents, deltaFor))
  ]
}

/** Deltas for the agents that see the gateway before or after the change. */
function gatewayDeltas(states: States, id: GatewayId, deltaFor: MakeDelta): ReadonlyArray<Delta> {
  const { current, old } = states
  if (scopedGateway(old, id) === undefined && scopedGateway(current, id) === undefined) return []
  const both = [old, current].map((state) => ({ state, gateway: HashMap.get(state.gateways, id) }))
  const agents = both.flatMap(({ gateway, state }) =>
    Option.isNone(gateway)
      ? []
      : gateway.value.serves === null
      ? BucketMap.values(state.agents).map((agent) => agent.id)
      : [...agentsInScope(state, gateway.value)]
  )
  return gatewayDiff(states, id, new Set(agents), deltaFor)
}

function gatewayDiff(
  { current, old }: States,
  id: GatewayId,
  agents: Iterable<AgentId>,
  deltaFor: MakeDelta
): ReadonlyArray<Delta> {
  const [oldRow, currentRow] = rowsOf({ current, old }, ({ gateways }) => HashMap.get(gateways, id))
  return Array.from(agents).flatMap((agent) => {
    const before = oldRow !== undefined && areConnected(old, oldRow, agent) ? oldRow : undefined
    const after = currentRow !== undefined && areConnected(current, currentRow, agent) ? currentRow : undefined
    return Equal.equals(before, after) ? [] : [deltaFor(`agent:${agent}`, { _tag: "Gateway", before, after })]
  })
}

function rowsOf<Row>({ current, old }: States, get: (state: NetworkState) => Option.Option<Row>) {
  return [Option.getOrUndefined(get(old)), Option.getOrUndefined(get(current))] as const
}
