/** What one client may see of the network: the pure function that `config` carries whole and every other message a step of. */
import type { AgentConfig, AgentTunnel, GatewayConfig, GatewayTunnel } from "#schema/control.ts"
import type { AgentId, ClientRef, GatewayId } from "#schema/ids.ts"
import { HashMap, Option, Redacted } from "effect"
import { gatewayAddresses } from "./addresses.ts"
import * as Table from "./Table.ts"
import type { Agent, Certificate, Gateway, NetworkState, Tunnel } from "./NetworkState.ts"

/** A client's whole view; undefined when the state does not know the client. */
export const view = (state: NetworkState, client: ClientRef): AgentConfig | GatewayConfig | undefined =>
  client.type === "agent" ? agentView(state, client.id) : gatewayView(state, client.id)

/** The agent's own part of its view. */
export const ownAgent = (agent: Agent): AgentConfig["agent"] => ({
  id: agent.id,
  name: agent.name,
  virtualIp: agent.virtualIp,
  subnet: agent.subnet,
  wireguardPrivateKey: Redacted.value(agent.wireguardPrivateKey)
})

/** A gateway as one agent sees it: of its addresses only the one inside the agent's own subnet. */
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

export const tunnelForAgent = (tunnel: Tunnel): AgentTunnel => ({
  id: tunnel.id,
  domain: tunnel.domain,
  target: tunnel.target,
  enabled: tunnel.enabled
})

/** The gateway's own part of its view. */
export const ownGateway = (gateway: Gateway): GatewayConfig["gateway"] => ({
  id: gateway.id,
  name: gateway.name,
  wireguardPrivateKey: Redacted.value(gateway.wireguardPrivateKey)
})

export const agentForGateways = (agent: Agent): GatewayConfig["agents"][number] => ({
  id: agent.id,
  name: agent.name,
  virtualIp: agent.virtualIp,
  subnet: agent.subnet,
  wireguardPublicKey: agent.wireguardPublicKey
})

export const tunnelForGateways = (tunnel: Tunnel, agentVirtualIp: string): GatewayTunnel => ({
  id: tunnel.id,
  domain: tunnel.domain,
  agentVirtualIp,
  target: tunnel.target,
  enabled: tunnel.enabled
})

export const certificateForGateways = (certificate: Certificate): GatewayConfig["certificates"][number] => ({
  domain: certificate.domain,
  certificate: certificate.certificate,
  privateKey: Redacted.value(certificate.privateKey),
  expiresAt: certificate.expiresAt
})

/** An agent's own tunnels. */
export const tunnelsOfAgent = (state: NetworkState, id: AgentId): ReadonlyArray<Tunnel> =>
  Option.match(HashMap.get(state.tunnelsOf, id), { onNone: () => [], onSome: HashMap.toValues })

function agentView(state: NetworkState, id: AgentId): AgentConfig | undefined {
  const agent = Table.get(state.agents, id)
  return Option.isNone(agent) ? undefined : {
    agent: ownAgent(agent.value),
    gateways: HashMap.toValues(state.gateways).map((gateway) =>
      gatewayForAgent(gateway, gatewayAddresses(agent.value.subnet))
    ),
    tunnels: tunnelsOfAgent(state, id).map(tunnelForAgent)
  }
}

function gatewayView(state: NetworkState, id: GatewayId): GatewayConfig | undefined {
  const gateway = HashMap.get(state.gateways, id)
  return Option.isNone(gateway) ? undefined : {
    gateway: ownGateway(gateway.value),
    agents: Table.values(state.agents).map(agentForGateways),
    tunnels: Table.values(state.tunnels).flatMap((tunnel) =>
      Option.match(HashMap.get(state.virtualIps, tunnel.agentId), {
        onNone: () => [],
        onSome: (virtualIp) => [tunnelForGateways(tunnel, virtualIp)]
      })
    ),
    certificates: Table.values(state.certificates).map(certificateForGateways)
  }
}
