/** Computes the deltas of a change for scoped gateways and for the agents that see them. Pure. */
import type { AgentId, GatewayId, TunnelId } from "#schema/ids.ts"
import { Equal, HashMap, Option } from "effect"
import { type Delta, type DeltaContent, forGateways, type MakeDelta, tunnelMessageFor } from "./delta.ts"
import { namesCovering } from "#network/certificateNames.ts"
import type { Change, Gateway, NetworkState, Tunnel } from "#network/NetworkState.ts"
import { agentsInScope, areConnected, scopedGateway, seesCertificate, servesTunnel } from "#network/scope.ts"
import * as BucketMap from "#network/BucketMap.ts"

/** The states before and after one change. */
interface States {
  readonly old: NetworkState
  readonly current: NetworkState
}

/** Called only if a gateway is scoped before or after the change; costs a few lookups for each scoped gateway. */
export const scopedDeltas = (
  old: NetworkState,
  current: NetworkState,
  change: Change,
  deltaFor: MakeDelta
): ReadonlyArray<Delta> => {
  const states = { old, current }
  switch (change._tag) {
    case "AgentPut":
      return forEachScoped(old, deltaFor, (gateway) => agentDeltas(states, gateway, change.agent.id))
    case "AgentRemoved":
      return forEachScoped(old, deltaFor, (gateway) => agentDeltas(states, gateway, change.id))
    case "GatewayPut":
      return gatewayDeltas(states, change.gateway.id, deltaFor)
    case "GatewayRemoved":
      return gatewayDeltas(states, change.id, deltaFor)
    case "TunnelPut":
      return tunnelDeltas(states, change.tunnel.id, deltaFor)
    case "TunnelRemoved":
      return tunnelDeltas(states, change.id, deltaFor)
    case "CertificatePut":
      return forEachScoped(old, deltaFor, (gateway) => certificateDeltas(states, gateway, change.certificate.domain))
    case "CertificateRemoved":
      return forEachScoped(old, deltaFor, (gateway) => certificateDeltas(states, gateway, change.domain))
    case "KeyPut":
    case "KeyRemoved":
      return []
  }
}

function forEachScoped(
  { scopeIndex }: NetworkState,
  deltaFor: MakeDelta,
  contents: (gateway: Gateway) => ReadonlyArray<DeltaContent>
): ReadonlyArray<Delta> {
  if (scopeIndex === undefined) return []
  return HashMap.toValues(scopeIndex.gateways).flatMap((gateway) =>
    contents(gateway).map((content) => deltaFor(`gateway:${gateway.id}`, content))
  )
}

/** An agent's own row does not decide whether the agent is in scope, so one state suffices for that. */
function agentDeltas({ current, old }: States, gateway: Gateway, id: AgentId): ReadonlyArray<DeltaContent> {
  const before = Option.getOrUndefined(BucketMap.get(old.agents, id))
  const after = Option.getOrUndefined(BucketMap.get(current.agents, id))
  if (Equal.equals(before, after) || !areConnected(current, gateway, id)) return []
  const tunnels = Option.match(HashMap.get(current.tunnelsByAgent, id), { onNone: () => [], onSome: HashMap.toValues })
  const movesTunnels = before?.virtualIp !== after?.virtualIp && tunnels.some((tunnel) => servesTunnel(gateway, tunnel))
  return [{ _tag: "Agent", movesTunnels, before, after }]
}

function certificateDeltas({ current, old }: States, gateway: Gateway, domain: string): ReadonlyArray<DeltaContent> {
  const before = Option.getOrUndefined(BucketMap.get(old.certificates, domain))
  const after = Option.getOrUndefined(BucketMap.get(current.certificates, domain))
  if (Equal.equals(before, after) || !seesCertificate(current, gateway, domain)) return []
  return [{ _tag: "Certificate", before, after }]
}

/** A tunnel brings its agent and its certificates into a scoped gateway's view, unless another tunnel already did. */
function tunnelDeltas(states: States, id: TunnelId, deltaFor: MakeDelta): ReadonlyArray<Delta> {
  const { current, old } = states
  const was = BucketMap.get(old.tunnels, id)
  const is = BucketMap.get(current.tunnels, id)
  const both = [...Option.toArray(was), ...Option.toArray(is)]
  const agents = new Set(both.map(({ agentId }) => agentId))
  const names = new Set(both.flatMap(({ domain }) => namesCovering(domain)))
  const forGatewaysInScope = forEachScoped(old, deltaFor, (gateway) => {
    const mine = Option.filter((tunnel: Tunnel) => servesTunnel(gateway, tunnel))
    const message = tunnelMessageFor(id, forGateways(old, mine(was)), forGateways(current, mine(is)))
    return [
      ...(message === undefined ? [] : [{ _tag: "Tunnel" as const, message }]),
      ...Array.from(agents).flatMap((agent) => agentInView(states, gateway, agent)),
      ...Array.from(names).flatMap((name) => certificateInView(states, gateway, name))
    ]
  })
  const forAgents = Array.from(agents).flatMap((agent) =>
    scopedGateways(states).flatMap((gateway) =>
      gatewayInView(states, gateway, gateway, agent).map((content) => deltaFor(`agent:${agent}`, content))
    )
  )
  return [...forGatewaysInScope, ...forAgents]
}

function scopedGateways({ current }: States): ReadonlyArray<Gateway> {
  return current.scopeIndex === undefined ? [] : HashMap.toValues(current.scopeIndex.gateways)
}

function agentInView({ current, old }: States, gateway: Gateway, id: AgentId): ReadonlyArray<DeltaContent> {
  const agent = Option.getOrUndefined(BucketMap.get(current.agents, id))
  const before = areConnected(old, gateway, id) ? agent : undefined
  const after = areConnected(current, gateway, id) ? agent : undefined
  return before === after ? [] : [{ _tag: "Agent", movesTunnels: false, before, after }]
}

function certificateInView({ current, old }: States, gateway: Gateway, name: string): ReadonlyArray<DeltaContent> {
  const certificate = Option.getOrUndefined(BucketMap.get(current.certificates, name))
  const before = seesCertificate(old, gateway, name) ? certificate : undefined
  const after = seesCertificate(current, gateway, name) ? certificate : undefined
  return before === after ? [] : [{ _tag: "Certificate", before, after }]
}

/** Deltas for the agents that see the gateway before or after the change. */
function gatewayDeltas(states: States, id: GatewayId, deltaFor: MakeDelta): ReadonlyArray<Delta> {
  const { current, old } = states
  if (scopedGateway(old, id) === undefined && scopedGateway(current, id) === undefined) return []
  const was = Option.getOrUndefined(HashMap.get(old.gateways, id))
  const is = Option.getOrUndefined(HashMap.get(current.gateways, id))
  const isForAll = [was, is].some((gateway) => gateway?.serves === null)
  const agents = isForAll
    ? BucketMap.values(current.agents).map((agent) => agent.id)
    : new Set([...agentsSeeing(old, was), ...agentsSeeing(current, is)])
  return Array.from(agents).flatMap((agent) =>
    gatewayInView(states, was, is, agent).map((content) => deltaFor(`agent:${agent}`, content))
  )
}

function agentsSeeing(state: NetworkState, gateway: Gateway | undefined): ReadonlySet<AgentId> {
  return gateway === undefined ? new Set() : agentsInScope(state, gateway)
}

function gatewayInView(
  { current, old }: States,
  was: Gateway | undefined,
  is: Gateway | undefined,
  agent: AgentId
): ReadonlyArray<DeltaContent> {
  const before = was !== undefined && areConnected(old, was, agent) ? was : undefined
  const after = is !== undefined && areConnected(current, is, agent) ? is : undefined
  return Equal.equals(before, after) ? [] : [{ _tag: "Gateway", before, after }]
}
