/** What has happened for the gateways that are limited, and for the agents that see them. Pure. */
import type { AgentId, GatewayId, TunnelId } from "#schema/ids.ts"
import { Equal, HashMap, Option } from "effect"
import { type Delta, forGateways, type Step, type To, tunnelMessage } from "./delta.ts"
import { namesCovering } from "#network/certificateNames.ts"
import type { Change, Gateway, NetworkState, Tunnel } from "#network/NetworkState.ts"
import { agentsInScope, areConnected, limitedIn, seesCertificate, serves } from "#network/scope.ts"
import * as Table from "#network/BucketMap.ts"

/** One change of the state. */
interface Turn {
  readonly old: NetworkState
  readonly current: NetworkState
}

/** To be called only where some gateway is limited before or after: it costs a few look-ups for each that is. */
export const scopedSteps = (
  old: NetworkState,
  current: NetworkState,
  change: Change,
  to: To
): ReadonlyArray<Step> => {
  const turn = { old, current }
  switch (change._tag) {
    case "AgentPut":
      return forEachLimited(old, to, (gateway) => agentDeltas(turn, gateway, change.agent.id))
    case "AgentRemoved":
      return forEachLimited(old, to, (gateway) => agentDeltas(turn, gateway, change.id))
    case "GatewayPut":
      return gatewaySteps(turn, change.gateway.id, to)
    case "GatewayRemoved":
      return gatewaySteps(turn, change.id, to)
    case "TunnelPut":
      return tunnelSteps(turn, change.tunnel.id, to)
    case "TunnelRemoved":
      return tunnelSteps(turn, change.id, to)
    case "CertificatePut":
      return forEachLimited(old, to, (gateway) => certificateDeltas(turn, gateway, change.certificate.domain))
    case "CertificateRemoved":
      return forEachLimited(old, to, (gateway) => certificateDeltas(turn, gateway, change.domain))
    case "KeyPut":
    case "KeyRemoved":
      return []
  }
}

function forEachLimited(
  { limits }: NetworkState,
  to: To,
  deltas: (gateway: Gateway) => ReadonlyArray<Delta>
): ReadonlyArray<Step> {
  if (limits === undefined) return []
  return HashMap.toValues(limits.gateways).flatMap((gateway) =>
    deltas(gateway).map((delta) => to(`gateway:${gateway.id}`, delta))
  )
}

/** Whether an agent is in scope does not depend on its own row. */
function agentDeltas({ current, old }: Turn, gateway: Gateway, id: AgentId): ReadonlyArray<Delta> {
  const before = Option.getOrUndefined(Table.get(old.agents, id))
  const after = Option.getOrUndefined(Table.get(current.agents, id))
  if (Equal.equals(before, after) || !areConnected(current, gateway, id)) return []
  const tunnels = Option.match(HashMap.get(current.tunnelsOf, id), { onNone: () => [], onSome: HashMap.toValues })
  const uproots = before?.virtualIp !== after?.virtualIp && tunnels.some((tunnel) => serves(gateway, tunnel))
  return [{ _tag: "Agent", uproots, before, after }]
}

function certificateDeltas({ current, old }: Turn, gateway: Gateway, domain: string): ReadonlyArray<Delta> {
  const before = Option.getOrUndefined(Table.get(old.certificates, domain))
  const after = Option.getOrUndefined(Table.get(current.certificates, domain))
  if (Equal.equals(before, after) || !seesCertificate(current, gateway, domain)) return []
  return [{ _tag: "Certificate", before, after }]
}

/** With the tunnel there come and go its agent and its certificates, if no other tunnel has them in the view. */
function tunnelSteps(turn: Turn, id: TunnelId, to: To): ReadonlyArray<Step> {
  const { current, old } = turn
  const was = Table.get(old.tunnels, id)
  const is = Table.get(current.tunnels, id)
  const both = [...Option.toArray(was), ...Option.toArray(is)]
  const agents = new Set(both.map(({ agentId }) => agentId))
  const names = new Set(both.flatMap(({ domain }) => namesCovering(domain)))
  const own = forEachLimited(old, to, (gateway) => {
    const mine = Option.filter((tunnel: Tunnel) => serves(gateway, tunnel))
    const message = tunnelMessage(id, forGateways(old, mine(was)), forGateways(current, mine(is)))
    return [
      ...(message === undefined ? [] : [{ _tag: "Tunnel" as const, message }]),
      ...Array.from(agents).flatMap((agent) => agentInView(turn, gateway, agent)),
      ...Array.from(names).flatMap((name) => certificateInView(turn, gateway, name))
    ]
  })
  const theirs = Array.from(agents).flatMap((agent) =>
    limitedGateways(turn).flatMap((gateway) =>
      gatewayInView(turn, gateway, gateway, agent).map((delta) => to(`agent:${agent}`, delta))
    )
  )
  return [...own, ...theirs]
}

function limitedGateways({ current }: Turn): ReadonlyArray<Gateway> {
  return current.limits === undefined ? [] : HashMap.toValues(current.limits.gateways)
}

function agentInView({ current, old }: Turn, gateway: Gateway, id: AgentId): ReadonlyArray<Delta> {
  const agent = Option.getOrUndefined(Table.get(current.agents, id))
  const before = areConnected(old, gateway, id) ? agent : undefined
  const after = areConnected(current, gateway, id) ? agent : undefined
  return before === after ? [] : [{ _tag: "Agent", uproots: false, before, after }]
}

function certificateInView({ current, old }: Turn, gateway: Gateway, name: string): ReadonlyArray<Delta> {
  const certificate = Option.getOrUndefined(Table.get(current.certificates, name))
  const before = seesCertificate(old, gateway, name) ? certificate : undefined
  const after = seesCertificate(current, gateway, name) ? certificate : undefined
  return before === after ? [] : [{ _tag: "Certificate", before, after }]
}

/** For the agents: whom it is connected to, or was. */
function gatewaySteps(turn: Turn, id: GatewayId, to: To): ReadonlyArray<Step> {
  const { current, old } = turn
  if (limitedIn(old, id) === undefined && limitedIn(current, id) === undefined) return []
  const was = Option.getOrUndefined(HashMap.get(old.gateways, id))
  const is = Option.getOrUndefined(HashMap.get(current.gateways, id))
  const isForAll = [was, is].some((gateway) => gateway?.serves === null)
  const agents = isForAll
    ? Table.values(current.agents).map((agent) => agent.id)
    : new Set([...reachOf(old, was), ...reachOf(current, is)])
  return Array.from(agents).flatMap((agent) =>
    gatewayInView(turn, was, is, agent).map((delta) => to(`agent:${agent}`, delta))
  )
}

function reachOf(state: NetworkState, gateway: Gateway | undefined): ReadonlySet<AgentId> {
  return gateway === undefined ? new Set() : agentsInScope(state, gateway)
}

function gatewayInView(
  { current, old }: Turn,
  was: Gateway | undefined,
  is: Gateway | undefined,
  agent: AgentId
): ReadonlyArray<Delta> {
  const before = was !== undefined && areConnected(old, was, agent) ? was : undefined
  const after = is !== undefined && areConnected(current, is, agent) ? is : undefined
  return Equal.equals(before, after) ? [] : [{ _tag: "Gateway", before, after }]
}
