/** What a limited gateway serves, and so may see; and which gateways an agent sees. Pure. */
import type { AgentId, ClientRef, GatewayId, TunnelId } from "#schema/ids.ts"
import { HashMap, Option } from "effect"
import * as History from "./History.ts"
import type { Certificate, Gateway, NetworkState, Tunnel } from "./NetworkState.ts"
import { namesCovering } from "./certificateNames.ts"
import * as Table from "./BucketMap.ts"

/** The clients that one stream of steps is for: the unlimited gateways share one; who sees what nobody else does has its own. */
export type Topic = "gateways" | `gateway:${GatewayId}` | `agent:${AgentId}`

/** Which stream this client follows, as long as the state stays like this. */
export const topicOf = (state: NetworkState, client: ClientRef): Topic => {
  if (client.type === "agent") return `agent:${client.id}`
  const gateway = limitedIn(state, client.id)
  return gateway === undefined ? "gateways" : `gateway:${client.id}`
}

/** The gateway, if it is there and limited. */
export const limitedIn = ({ limits }: NetworkState, id: GatewayId): Gateway | undefined =>
  limits === undefined ? undefined : Option.getOrUndefined(HashMap.get(limits.gateways, id))

/** Whether the gateway takes this tunnel's traffic: its agent or its domain is listed, or nothing is. */
export const serves = ({ serves }: Gateway, tunnel: Pick<Tunnel, "agentId" | "domain">): boolean =>
  serves === null || serves.agents.has(tunnel.agentId) ||
  namesCovering(tunnel.domain).some((name) => serves.domains.has(name))

/** Whether the gateway and the agent are in each other's view: the agent is listed, or has a tunnel that the gateway serves. */
export const areConnected = (state: NetworkState, gateway: Gateway, agent: AgentId): boolean => {
  if (gateway.serves === null || gateway.serves.agents.has(agent)) return true
  const tunnels = Option.getOrUndefined(HashMap.get(state.tunnelsOf, agent))
  if (tunnels === undefined) return false
  for (const tunnel of HashMap.values(tunnels)) if (serves(gateway, tunnel)) return true
  return false
}

/** Whether a certificate for this name covers the domain of a tunnel that the limited gateway serves. */
export const seesCertificate = ({ limits }: NetworkState, gateway: Gateway, name: string): boolean => {
  const tunnels = limits && Option.getOrUndefined(HashMap.get(limits.tunnelsByName, name))
  if (tunnels === undefined) return false
  for (const tunnel of HashMap.values(tunnels)) if (serves(gateway, tunnel)) return true
  return false
}

/**
 * Whether this client can see anything of what was touched, as gateways are limited now. Of a tunnel whose domains are not
 * known any more it is supposed: who waits for a change waits for too many rather than for too few.
 */
export const concerns = (state: NetworkState, touch: History.Touch, client: ClientRef): boolean => {
  if (state.limits === undefined || !History.concerns(touch, client)) return History.concerns(touch, client)
  if (client.type === "agent") {
    const gateway = touch.entity === "gateway" ? limitedIn(state, touch.id) : undefined
    return gateway === undefined || touch.own || areConnected(state, gateway, client.id)
  }
  const gateway = limitedIn(state, client.id)
  if (gateway === undefined) return true
  switch (touch.entity) {
    case "agent":
      return areConnected(state, gateway, touch.id)
    case "certificate":
      return seesCertificate(state, gateway, touch.id)
    case "tunnel":
      return touch.domains === undefined ||
        touch.domains.some((domain) => touch.agents.some((agentId) => serves(gateway, { agentId, domain })))
    case "gateway":
      return true
  }
}

/** The rows in a limited gateway's view; what it costs goes by the scope, not by the network. */
export const inScope = (state: NetworkState, gateway: Gateway) => {
  const tunnels = tunnelsInScope(state, gateway)
  const agents = new Set<AgentId>(gateway.serves?.agents)
  const names = new Set<string>()
  for (const { agentId, domain } of tunnels) {
    agents.add(agentId)
    for (const name of namesCovering(domain)) names.add(name)
  }
  return {
    agents: found(agents, (id) => Table.get(state.agents, id)),
    tunnels: tunnels.filter(({ agentId }) => HashMap.has(state.virtualIps, agentId)),
    certificates: found<string, Certificate>(names, (name) => Table.get(state.certificates, name))
  }
}

/** Every agent that has the limited gateway in its view, or would have if it was there. */
export const agentsInScope = (state: NetworkState, gateway: Gateway): ReadonlySet<AgentId> =>
  new Set([...gateway.serves?.agents ?? [], ...tunnelsInScope(state, gateway).map(({ agentId }) => agentId)])

function tunnelsInScope({ limits, tunnelsOf }: NetworkState, { serves }: Gateway): ReadonlyArray<Tunnel> {
  const tunnels = new Map<TunnelId, Tunnel>()
  const add = (more: Option.Option<HashMap.HashMap<TunnelId, Tunnel>>) => {
    if (Option.isSome(more)) { for (const tunnel of HashMap.values(more.value)) tunnels.set(tunnel.id, tunnel) }
  }
  for (const agent of serves?.agents ?? []) add(HashMap.get(tunnelsOf, agent))
  if (limits !== undefined) { for (const name of serves?.domains ?? []) add(HashMap.get(limits.tunnelsByName, name)) }
  return [...tunnels.values()]
}

function found<Id, Row>(ids: Iterable<Id>, get: (id: Id) => Option.Option<Row>): ReadonlyArray<Row> {
  return Array.from(ids).flatMap((id) => Option.toArray(get(id)))
}
