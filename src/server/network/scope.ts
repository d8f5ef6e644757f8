/** Scopes: the rows that a scoped gateway sees, and the gateways that an agent sees. Pure. */
import type { AgentId, ClientRef, GatewayId, TunnelId } from "#schema/ids.ts"
import { HashMap, Option } from "effect"
import * as History from "./History.ts"
import type { Certificate, Gateway, NetworkState, Tunnel } from "./NetworkState.ts"
import { namesCovering } from "./certificateNames.ts"
import * as BucketMap from "./BucketMap.ts"

/** A channel of deltas. All gateways without a scope share `gateways`; each scoped gateway and each agent has its own. */
export type Topic = "gateways" | `gateway:${GatewayId}` | `agent:${AgentId}`

/** The topic that this client subscribes to in this state. */
export const topicOf = (state: NetworkState, client: ClientRef): Topic => {
  if (client.type === "agent") return `agent:${client.id}`
  const gateway = scopedGateway(state, client.id)
  return gateway === undefined ? "gateways" : `gateway:${client.id}`
}

/** The gateway if it exists and is scoped. */
export const scopedGateway = ({ scopeIndex }: NetworkState, id: GatewayId): Gateway | undefined =>
  scopeIndex && Option.getOrUndefined(HashMap.get(scopeIndex.gateways, id))

/** Whether the gateway forwards this tunnel's traffic: it has no scope, or its scope lists the agent or the domain. */
export const servesTunnel = ({ serves }: Gateway, tunnel: Pick<Tunnel, "agentId" | "domain">): boolean =>
  serves === null || serves.agents.has(tunnel.agentId) ||
  namesCovering(tunnel.domain).some((name) => serves.domains.has(name))

/** Whether the gateway and the agent see each other: the scope lists the agent, or the gateway serves one of its tunnels. */
export const areConnected = (state: NetworkState, gateway: Gateway, agent: AgentId): boolean => {
  if (gateway.serves === null || gateway.serves.agents.has(agent)) return true
  const tunnels = Option.getOrUndefined(HashMap.get(state.tunnelsByAgent, agent))
  if (tunnels === undefined) return false
  for (const tunnel of HashMap.values(tunnels)) if (servesTunnel(gateway, tunnel)) return true
  return false
}

/** A gateway needs a certificate for http only: it passes tls through, and the domain of tcp and udp is for DNS. */
const needsCertificate = ({ protocol }: Tunnel): boolean => protocol === "http"

/** Whether a certificate for this name covers the domain of an http tunnel that the scoped gateway serves. */
export const seesCertificate = ({ scopeIndex }: NetworkState, gateway: Gateway, name: string): boolean => {
  const tunnels = scopeIndex && Option.getOrUndefined(HashMap.get(scopeIndex.tunnelsByName, name))
  if (tunnels === undefined) return false
  for (const tunnel of HashMap.values(tunnels)) {
    if (needsCertificate(tunnel) && servesTunnel(gateway, tunnel)) return true
  }
  return false
}

/**
 * Whether the change may affect this client's view, by the scopes of this state. True for a tunnel whose earlier domains are
 * unknown, because an operator's wait for a change must not miss a client.
 */
export const mayAffect = (state: NetworkState, entry: History.Entry, client: ClientRef): boolean => {
  if (state.scopeIndex === undefined || !History.affects(entry, client)) return History.affects(entry, client)
  if (client.type === "agent") {
    const gateway = entry.entity === "gateway" ? scopedGateway(state, entry.id) : undefined
    return gateway === undefined || entry.own || areConnected(state, gateway, client.id)
  }
  const gateway = scopedGateway(state, client.id)
  if (gateway === undefined) return true
  switch (entry.entity) {
    case "agent":
      return areConnected(state, gateway, entry.id)
    case "certificate":
      return seesCertificate(state, gateway, entry.id)
    case "tunnel":
      return entry.domains === undefined ||
        entry.domains.some((domain) => entry.agents.some((agentId) => servesTunnel(gateway, { agentId, domain })))
    case "gateway":
      return true
  }
}

/** The rows in a scoped gateway's view; the cost depends on the size of the scope, not of the network. */
export const rowsInScope = (state: NetworkState, gateway: Gateway) => {
  const tunnels = tunnelsInScope(state, gateway)
  const agents = new Set<AgentId>(gateway.serves?.agents)
  const names = new Set<string>()
  for (const tunnel of tunnels) {
    agents.add(tunnel.agentId)
    if (needsCertificate(tunnel)) { for (const name of namesCovering(tunnel.domain)) names.add(name) }
  }
  return {
    agents: existing(agents, (id) => BucketMap.get(state.agents, id)),
    tunnels: tunnels.filter(({ agentId }) => HashMap.has(state.virtualIps, agentId)),
    certificates: existing<string, Certificate>(names, (name) => BucketMap.get(state.certificates, name))
  }
}

/** Every agent that sees the gateway, or would see it if the agent existed. */
export const agentsInScope = (state: NetworkState, gateway: Gateway): ReadonlySet<AgentId> =>
  new Set([...gateway.serves?.agents ?? [], ...tunnelsInScope(state, gateway).map(({ agentId }) => agentId)])

function tunnelsInScope(
  { scopeIndex, tunnelsByAgent }: NetworkState,
  { serves }: Gateway
): ReadonlyArray<Tunnel> {
  const tunnels = new Map<TunnelId, Tunnel>()
  const add = (found: Option.Option<HashMap.HashMap<TunnelId, Tunnel>>) => {
    if (Option.isSome(found)) { for (const tunnel of HashMap.values(found.value)) tunnels.set(tunnel.id, tunnel) }
  }
  for (const agent of serves?.agents ?? []) add(HashMap.get(tunnelsByAgent, agent))
  if (scopeIndex !== undefined) {
    for (const name of serves?.domains ?? []) add(HashMap.get(scopeIndex.tunnelsByName, name))
  }
  return [...tunnels.values()]
}

function existing<Id, Row>(ids: Iterable<Id>, get: (id: Id) => Option.Option<Row>): ReadonlyArray<Row> {
  return Array.from(ids).flatMap((id) => Option.toArray(get(id)))
}
