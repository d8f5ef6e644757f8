/** Computes the deltas of a change for each audience; `messages.ts` renders them. Pure. */
import type { AgentId, ClientRef, GatewayId, TunnelId } from "#schema/ids.ts"
import { Equal, HashMap, Option } from "effect"
import {
  type Audience,
  type Delta,
  type DeltaContent,
  type MakeDelta,
  tunnelDeltaForAgent,
  tunnelDeltaForGateways
} from "./delta.ts"
import { scopedDeltas } from "./scopedDeltas.ts"
import type { Change, NetworkState, Tunnel } from "#network/NetworkState.ts"
import { changedRow } from "#network/changedRow.ts"
import { scopedGateway, topicOf } from "#network/scope.ts"
import * as BucketMap from "#network/BucketMap.ts"

/**
 * The deltas of one change, from the state before it and the state after it. An audience that does not see the change gets none.
 * Guarantee: for every client, the config at revision R and the deltas up to R' make the view at R'.
 */
export const deltasOf = (before: NetworkState, after: NetworkState, change: Change): ReadonlyArray<Delta> => {
  const { revision } = change
  const deltaFor = (audience: Audience, content: DeltaContent): Delta => ({ revision, audience, content })
  const shared = sharedDeltas(before, after, change, deltaFor)
  if (before.scopeIndex === undefined && after.scopeIndex === undefined) return shared
  return oneForEachAudience([...shared, ...scopedDeltas(before, after, change, deltaFor)])
}

/** The audiences that a client belongs to. */
export const audiencesOf = (state: NetworkState, client: ClientRef): ReadonlyArray<Audience> =>
  client.type === "gateway" ? [topicOf(state, client)] : ["agents", topicOf(state, client)]

/** Merges several deltas of one audience into `Rescoped`, because one revision is one message to a client. */
function oneForEachAudience(all: ReadonlyArray<Delta>): ReadonlyArray<Delta> {
  const byAudience = Map.groupBy(all, ({ audience }) => audience)
  return [...byAudience].flatMap(([audience, deltas]) => {
    const [first] = deltas
    return first === undefined || deltas.length === 1
      ? deltas
      : [{ revision: first.revision, audience, content: { _tag: "Rescoped" as const } }]
  })
}

function sharedDeltas(
  before: NetworkState,
  after: NetworkState,
  change: Change,
  deltaFor: MakeDelta
): ReadonlyArray<Delta> {
  const row = changedRow(change)
  switch (row.entityType) {
    case "agent":
      return agentDeltas(before, after, row.entityId, deltaFor)
    case "gateway":
      return gatewayDeltas(before, after, row.entityId, deltaFor)
    case "tunnel":
      return tunnelDeltas(before, after, row.entityId, deltaFor)
    case "certificate":
      return certificateDeltas(before, after, row.entityId, deltaFor)
    case "key":
      return []
  }
}

function agentDeltas(old: NetworkState, current: NetworkState, id: AgentId, deltaFor: MakeDelta): ReadonlyArray<Delta> {
  const before = Option.getOrUndefined(BucketMap.get(old.agents, id))
  const after = Option.getOrUndefined(BucketMap.get(current.agents, id))
  if (Equal.equals(before, after)) return []
  const movesTunnels = before?.virtualIp !== after?.virtualIp && HashMap.has(current.tunnelsByAgent, id)
  const result = [deltaFor("gateways", { _tag: "Agent", movesTunnels, before, after })]
  if (before !== undefined && after !== undefined) {
    result.push(deltaFor(`agent:${id}`, { _tag: "Own", client: "agent", before, after }))
  }
  return result
}

/** A scoped gateway is not visible to all agents; `scopedDeltas` handles the agents that see it. */
function gatewayDeltas(
  old: NetworkState,
  current: NetworkState,
  id: GatewayId,
  deltaFor: MakeDelta
): ReadonlyArray<Delta> {
  const before = Option.getOrUndefined(HashMap.get(old.gateways, id))
  const after = Option.getOrUndefined(HashMap.get(current.gateways, id))
  if (Equal.equals(before, after)) return []
  const isForAll = scopedGateway(old, id) === undefined && scopedGateway(current, id) === undefined
  const result = isForAll ? [deltaFor("agents", { _tag: "Gateway", before, after })] : []
  // A gateway's view does not contain the gateway's address, which often changes with a reconnect, so no client is woken.
  if (before !== undefined && after !== undefined && !Equal.equals({ ...before, publicIp: after.publicIp }, after)) {
    result.push(deltaFor(topicOf(old, { type: "gateway", id }), { _tag: "Own", client: "gateway", before, after }))
  }
  return result
}

function certificateDeltas(
  old: NetworkState,
  current: NetworkState,
  domain: string,
  deltaFor: MakeDelta
): ReadonlyArray<Delta> {
  const before = Option.getOrUndefined(BucketMap.get(old.certificates, domain))
  const after = Option.getOrUndefined(BucketMap.get(current.certificates, domain))
  return Equal.equals(before, after) ? [] : [deltaFor("gateways", { _tag: "Certificate", before, after })]
}

/** A tunnel that moves to another agent leaves one agent's view, enters the other's, and changes in the gateways'. */
function tunnelDeltas(
  before: NetworkState,
  after: NetworkState,
  id: TunnelId,
  deltaFor: MakeDelta
): ReadonlyArray<Delta> {
  const old = BucketMap.get(before.tunnels, id)
  const current = BucketMap.get(after.tunnels, id)
  const agents = new Set([old, current].flatMap((tunnel) => Option.isSome(tunnel) ? [tunnel.value.agentId] : []))
  const result: Array<Delta> = []
  for (const agentId of agents) {
    const mine = Option.filter((tunnel: Tunnel) => tunnel.agentId === agentId)
    const content = tunnelDeltaForAgent(id, mine(old), mine(current))
    if (content !== undefined) result.push(deltaFor(`agent:${agentId}`, content))
  }
  const content = tunnelDeltaForGateways(id, before, old, after, current)
  if (content !== undefined) result.push(deltaFor("gateways", content))
  return result
}
