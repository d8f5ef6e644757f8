/** Which clients a change concerns, and what has happened for them; `tell.ts` says how each level is told of it. Pure. */
import type { AgentId, ClientRef, GatewayId, TunnelId } from "#schema/ids.ts"
import { Equal, HashMap, Option } from "effect"
import { type Audience, type Delta, forGateways, type Step, type To, tunnelMessage } from "./delta.ts"
import { scopedSteps } from "./scopedSteps.ts"
import type { Certificate, Change, NetworkState, Tunnel } from "#network/NetworkState.ts"
import { limitedIn, topicOf } from "#network/scope.ts"
import * as Table from "#network/BucketMap.ts"
import { tunnelForAgent } from "./view.ts"

/**
 * The steps of one change, from the state before it to the state after it. An audience that cannot see any of it gets none:
 * config at R plus the steps up to R' is the view at R', for every client.
 */
export const steps = (before: NetworkState, after: NetworkState, change: Change): ReadonlyArray<Step> => {
  const { revision } = change
  const to = (audience: Audience, delta: Delta): Step => ({ revision, audience, delta })
  const shared = sharedSteps(before, after, change, to)
  if (before.limits === undefined && after.limits === undefined) return shared
  return oneEach([...shared, ...scopedSteps(before, after, change, to)])
}

/** The audiences that a client follows. */
export const audiencesOf = (state: NetworkState, client: ClientRef): ReadonlyArray<Audience> =>
  client.type === "gateway" ? [topicOf(state, client)] : ["agents", topicOf(state, client)]

/** One change is one place in the order: what is several rows to a client at that place, is told whole. */
function oneEach(all: ReadonlyArray<Step>): ReadonlyArray<Step> {
  const byAudience = Map.groupBy(all, ({ audience }) => audience)
  return [...byAudience].flatMap(([audience, theirs]) => {
    const [first] = theirs
    return first === undefined || theirs.length === 1
      ? theirs
      : [{ revision: first.revision, audience, delta: { _tag: "Rescoped" as const } }]
  })
}

function sharedSteps(before: NetworkState, after: NetworkState, change: Change, to: To): ReadonlyArray<Step> {
  switch (change._tag) {
    case "AgentPut":
      return agentSteps(before, after, change.agent.id, to)
    case "AgentRemoved":
      return agentSteps(before, after, change.id, to)
    case "GatewayPut":
      return gatewaySteps(before, after, change.gateway.id, to)
    case "GatewayRemoved":
      return gatewaySteps(before, after, change.id, to)
    case "TunnelPut":
      return tunnelSteps(before, after, change.tunnel.id, to)
    case "TunnelRemoved":
      return tunnelSteps(before, after, change.id, to)
    case "CertificatePut":
      return certificateSteps(before, change.certificate.domain, change.certificate, to)
    case "CertificateRemoved":
      return certificateSteps(before, change.domain, undefined, to)
    case "KeyPut":
    case "KeyRemoved":
      return []
  }
}

function agentSteps(old: NetworkState, current: NetworkState, id: AgentId, to: To): ReadonlyArray<Step> {
  const before = Option.getOrUndefined(Table.get(old.agents, id))
  const after = Option.getOrUndefined(Table.get(current.agents, id))
  if (Equal.equals(before, after)) return []
  const uproots = before?.virtualIp !== after?.virtualIp && HashMap.has(current.tunnelsOf, id)
  const result = [to("gateways", { _tag: "Agent", uproots, before, after })]
  if (before !== undefined && after !== undefined) {
    result.push(to(`agent:${id}`, { _tag: "Own", client: "agent", before, after }))
  }
  return result
}

/** A limited gateway is not for all agents; `limitedSteps` has which. */
function gatewaySteps(old: NetworkState, current: NetworkState, id: GatewayId, to: To): ReadonlyArray<Step> {
  const before = Option.getOrUndefined(HashMap.get(old.gateways, id))
  const after = Option.getOrUndefined(HashMap.get(current.gateways, id))
  if (Equal.equals(before, after)) return []
  const isForAll = limitedIn(old, id) === undefined && limitedIn(current, id) === undefined
  const result = isForAll ? [to("agents", { _tag: "Gateway", before, after })] : []
  // A new address, which comes with many a reconnect, is no news to itself: nobody is woken for it.
  if (before !== undefined && after !== undefined && !Equal.equals({ ...before, publicIp: after.publicIp }, after)) {
    result.push(to(topicOf(old, { type: "gateway", id }), { _tag: "Own", client: "gateway", before, after }))
  }
  return result
}

function certificateSteps(
  old: NetworkState,
  domain: string,
  after: Certificate | undefined,
  to: To
): ReadonlyArray<Step> {
  const before = Option.getOrUndefined(Table.get(old.certificates, domain))
  return Equal.equals(before, after) ? [] : [to("gateways", { _tag: "Certificate", before, after })]
}

/** A move is no case of its own: the tunnel leaves one agent's view, enters another's, and changes in the gateways'. */
function tunnelSteps(before: NetworkState, after: NetworkState, id: TunnelId, to: To): ReadonlyArray<Step> {
  const old = Table.get(before.tunnels, id)
  const current = Table.get(after.tunnels, id)
  const agents = new Set([old, current].flatMap((tunnel) => Option.isSome(tunnel) ? [tunnel.value.agentId] : []))
  const result: Array<Step> = []
  for (const agentId of agents) {
    const mine = Option.filter((tunnel: Tunnel) => tunnel.agentId === agentId)
    const message = tunnelMessage(id, Option.map(mine(old), tunnelForAgent), Option.map(mine(current), tunnelForAgent))
    if (message !== undefined) result.push(to(`agent:${agentId}`, { _tag: "Tunnel", message }))
  }
  const message = tunnelMessage(id, forGateways(before, old), forGateways(after, current))
  if (message !== undefined) result.push(to("gateways", { _tag: "Tunnel", message }))
  return result
}
