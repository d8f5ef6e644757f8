/** The view: what one client may see of the network. A `config` message carries it. Pure. */
import type { AgentId, ClientRef, GatewayId } from "#schema/ids.ts"
import type { Level } from "#schema/protocol.ts"
import type {
  AgentConfig,
  AgentConfigV1,
  AgentOfGateway,
  AgentTunnel,
  AgentTunnelV1,
  CertificateOfDomain,
  GatewayConfig,
  GatewayConfigV1,
  GatewayOfAgent,
  GatewayTunnel,
  GatewayTunnelV1
} from "#schema/views.ts"
import { HashMap, Option, Redacted } from "effect"
import { gatewayAddresses } from "#network/addresses.ts"
import type { Agent, Certificate, Gateway, NetworkState, Tunnel } from "#network/NetworkState.ts"
import { areConnected, rowsInScope, scopedGateway } from "#network/scope.ts"
import * as BucketMap from "#network/BucketMap.ts"

export type View = AgentConfig | GatewayConfig | AgentConfigV1 | GatewayConfigV1

/** A client's view at its level; undefined if the client does not exist. */
export const view = (state: NetworkState, client: ClientRef, level: Level = "plain"): View | undefined =>
  client.type === "agent" ? agentView(state, client.id, level) : gatewayView(state, client.id, level)

/** The agent's own part of its view. */
export const ownAgent = (agent: Agent): AgentConfig["agent"] => ({
  id: agent.id,
  name: agent.name,
  virtualIp: agent.virtualIp,
  subnet: agent.subnet,
  wireguardPrivateKey: privateKeyOf(agent)
})

export const ownAgentV1 = (agent: Agent): AgentConfigV1["agent"] => ({
  id: agent.id,
  name: agent.name,
  virtualIp: agent.virtualIp,
  subnet: agent.subnet,
  ...ownKeys(agent)
})

/** A gateway as one agent sees it, with only its address inside the agent's own subnet. */
export const gatewayForAgent = (
  gateway: Gateway,
  addressOf: ReturnType<typeof gatewayAddresses>
): AgentConfig["gateways"][number] => {
  const address = addressOf(gateway.slot)
  return {
    id: gateway.id,
    name: gateway.name,
    publicIp: gateway.publicIp,
    wireguardPublicKey: gateway.wireguardPublicKey,
    virtualIps: address === undefined ? [] : [address]
  }
}

export const gatewayForAgentV1 = (
  gateway: Gateway,
  addressOf: ReturnType<typeof gatewayAddresses>
): GatewayOfAgent => ({ ...gatewayForAgent(gateway, addressOf), endpoint: endpointOf(gateway) })

/** The endpoint in the syntax of WireGuard's configuration, `203.0.113.7:51820` or `[2001:db8::1]:51820`; null without an address. */
export const endpointOf = ({ listenPort, publicIp }: Gateway): string | null =>
  publicIp === null ? null : `${publicIp.includes(":") ? `[${publicIp}]` : publicIp}:${listenPort}`

export const tunnelForAgent = (tunnel: Tunnel): AgentTunnel => ({
  id: tunnel.id,
  domain: tunnel.domain,
  target: tunnel.target,
  enabled: tunnel.enabled
})

/** The plain level knows no other protocol than http. */
export const isAtPlainLevel = ({ protocol }: Tunnel): boolean => protocol === "http"

export const tunnelForAgentV1 = (tunnel: Tunnel): AgentTunnelV1 => ({ ...tunnelForAgent(tunnel), ...fieldsV1(tunnel) })

/** The gateway's own part of its view. */
export const ownGateway = (gateway: Gateway): GatewayConfig["gateway"] => ({
  id: gateway.id,
  name: gateway.name,
  wireguardPrivateKey: privateKeyOf(gateway)
})

export const ownGatewayV1 = (gateway: Gateway): GatewayConfigV1["gateway"] => ({
  id: gateway.id,
  name: gateway.name,
  listenPort: gateway.listenPort,
  ...ownKeys(gateway)
})

export const agentForGateways = (agent: Agent): GatewayConfig["agents"][number] => ({
  id: agent.id,
  name: agent.name,
  virtualIp: agent.virtualIp,
  subnet: agent.subnet,
  wireguardPublicKey: agent.wireguardPublicKey
})

/** An agent as the gateway with this slot sees it. */
export const agentForGatewayV1 = (agent: Agent, slot: number): AgentOfGateway => ({
  ...agentForGateways(agent),
  gatewayVirtualIp: gatewayAddresses(agent.subnet)(slot) ?? null
})

export const tunnelForGateways = (tunnel: Tunnel, agentVirtualIp: string): GatewayTunnel => ({
  id: tunnel.id,
  domain: tunnel.domain,
  agentVirtualIp,
  target: tunnel.target,
  enabled: tunnel.enabled
})

export const tunnelForGatewaysV1 = (tunnel: Tunnel, agentVirtualIp: string): GatewayTunnelV1 => ({
  ...tunnelForGateways(tunnel, agentVirtualIp),
  ...fieldsV1(tunnel)
})

export const certificateForGateways = (certificate: Certificate): CertificateOfDomain => ({
  domain: certificate.domain,
  certificate: certificate.certificate,
  privateKey: Redacted.value(certificate.privateKey),
  expiresAt: certificate.expiresAt
})

/** An agent's own tunnels. */
export const tunnelsOfAgent = (state: NetworkState, id: AgentId): ReadonlyArray<Tunnel> =>
  Option.match(HashMap.get(state.tunnelsByAgent, id), { onNone: () => [], onSome: HashMap.toValues })

/** The gateways that this agent sees. */
export const gatewaysOfAgent = (state: NetworkState, id: AgentId): ReadonlyArray<Gateway> => {
  const gateways = HashMap.toValues(state.gateways)
  return state.scopeIndex === undefined ? gateways : gateways.filter((gateway) => areConnected(state, gateway, id))
}

function fieldsV1({ listenPort, name, port, protocol, proxyProtocol, tls }: Tunnel) {
  return { name, protocol, port, listenPort, proxyProtocol, tls }
}

/** Empty only if the client generated its keys. Such a client gets new keys before it gets a view of the plain level. */
function privateKeyOf({ wireguardPrivateKey }: Agent | Gateway): string {
  return wireguardPrivateKey === null ? "" : Redacted.value(wireguardPrivateKey)
}

function ownKeys({ wireguardPrivateKey, wireguardPublicKey }: Agent | Gateway) {
  return wireguardPrivateKey === null
    ? { wireguardPublicKey }
    : { wireguardPublicKey, wireguardPrivateKey: Redacted.value(wireguardPrivateKey) }
}

function agentView(state: NetworkState, id: AgentId, level: Level): AgentConfig | AgentConfigV1 | undefined {
  const agent = Option.getOrUndefined(BucketMap.get(state.agents, id))
  if (agent === undefined) return undefined
  const addressOf = gatewayAddresses(agent.subnet)
  const gateways = gatewaysOfAgent(state, id)
  const tunnels = tunnelsOfAgent(state, id)
  return level === "plain"
    ? {
      agent: ownAgent(agent),
      gateways: gateways.map((gateway) => gatewayForAgent(gateway, addressOf)),
      tunnels: tunnels.filter(isAtPlainLevel).map(tunnelForAgent)
    }
    : {
      mtu: state.mtu,
      agent: ownAgentV1(agent),
      gateways: gateways.map((gateway) => gatewayForAgentV1(gateway, addressOf)),
      tunnels: tunnels.map(tunnelForAgentV1)
    }
}

function gatewayView(state: NetworkState, id: GatewayId, level: Level): GatewayConfig | GatewayConfigV1 | undefined {
  const gateway = Option.getOrUndefined(HashMap.get(state.gateways, id))
  if (gateway === undefined) return undefined
  const { agents, certificates, tunnels } = scopedGateway(state, id) === undefined
    ? allRows(state)
    : rowsInScope(state, gateway)
  const seen = <Row>(rows: ReadonlyArray<Tunnel>, render: (tunnel: Tunnel, agentVirtualIp: string) => Row) =>
    rows.flatMap((tunnel) =>
      Option.match(HashMap.get(state.virtualIps, tunnel.agentId), {
        onNone: () => [],
        onSome: (virtualIp) => [render(tunnel, virtualIp)]
      })
    )
  const shared = { certificates: certificates.map(certificateForGateways) }
  return level === "plain"
    ? {
      gateway: ownGateway(gateway),
      agents: agents.map(agentForGateways),
      tunnels: seen(tunnels.filter(isAtPlainLevel), tunnelForGateways),
      ...shared
    }
    : {
      mtu: state.mtu,
      gateway: ownGatewayV1(gateway),
      agents: agents.map((agent) => agentForGatewayV1(agent, gateway.slot)),
      tunnels: seen(tunnels, tunnelForGatewaysV1),
      ...shared
    }
}

function allRows({ agents, certificates, tunnels }: NetworkState) {
  return {
    agents: BucketMap.values(agents),
    tunnels: BucketMap.values(tunnels),
    certificates: BucketMap.values(certificates)
  }
}
