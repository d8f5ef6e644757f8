/** What a client may see of the network, at each level: `config` carries it whole, every other message a part of it. */
import { Schema } from "effect"
import { stored, tunnelFields } from "./sharedFields.ts"
import { AgentId, GatewayId, Ipv4, Ipv4Cidr, Timestamp, TunnelId, WireguardKey } from "./ids.ts"

const wireguardPrivateKey = WireguardKey.annotate({
  description: "This client's own WireGuard private key; nobody else gets it."
})

/** Describes a part of a view without giving it a name of its own. */
const list = <S extends Schema.Constraint>(of: S, description: string) => Schema.Array(of).annotate({ description })

export const AgentTunnel = Schema.Struct({ id: TunnelId, ...tunnelFields }).annotate({
  identifier: "AgentTunnel",
  description: "A tunnel as its agent sees it."
})
export type AgentTunnel = typeof AgentTunnel.Type

export const GatewayTunnel = Schema.Struct({
  id: TunnelId,
  domain: tunnelFields.domain,
  agentVirtualIp: Ipv4.annotate({ description: "The address of the tunnel's agent inside the network." }),
  target: tunnelFields.target,
  enabled: tunnelFields.enabled
}).annotate({ identifier: "GatewayTunnel", description: "A tunnel as gateways see it." })
export type GatewayTunnel = typeof GatewayTunnel.Type

const ownAgentFields = { id: AgentId, name: stored("Its name."), virtualIp: Ipv4, subnet: Ipv4Cidr }

const gatewayFields = {
  id: GatewayId,
  name: stored("Its name."),
  publicIp: Schema.NullOr(Schema.String).annotate({
    description: "IPv4 or IPv6; null until the gateway's address is known."
  }),
  wireguardPublicKey: WireguardKey,
  virtualIps: Schema.Array(Ipv4).annotate({
    description: "The gateway's address inside this agent's subnet: none or one."
  })
}

const agentFields = {
  id: AgentId,
  name: stored("Its name."),
  virtualIp: Ipv4,
  subnet: Ipv4Cidr,
  wireguardPublicKey: WireguardKey
}

export const CertificateOfDomain = Schema.Struct({
  domain: stored("The host name that the certificate is for."),
  certificate: stored("PEM: the certificate, then its chain."),
  privateKey: stored("PEM: its private key."),
  expiresAt: Timestamp.annotate({ description: "When the certificate ends, in UTC (RFC 3339)." })
})
export type CertificateOfDomain = typeof CertificateOfDomain.Type

const ownTunnels = list(AgentTunnel, "The agent's own tunnels.")
const everyTunnel = list(GatewayTunnel, "Every tunnel.")
const everyCertificate = list(CertificateOfDomain, "Every certificate.")

export const AgentConfig = Schema.Struct({
  agent: Schema.Struct({ ...ownAgentFields, wireguardPrivateKey }).annotate({ description: "The agent itself." }),
  gateways: list(Schema.Struct(gatewayFields), "Every gateway."),
  tunnels: ownTunnels
}).annotate({
  identifier: "AgentConfig",
  description: "An agent's whole view: itself, every gateway, its own tunnels."
})
export type AgentConfig = typeof AgentConfig.Type

export const GatewayConfig = Schema.Struct({
  gateway: Schema.Struct({ id: GatewayId, name: stored("Its name."), wireguardPrivateKey }).annotate({
    description: "The gateway itself."
  }),
  agents: list(Schema.Struct(agentFields), "Every agent."),
  tunnels: everyTunnel,
  certificates: everyCertificate
}).annotate({
  identifier: "GatewayConfig",
  description: "A gateway's whole view: itself, every agent, tunnel and certificate."
})
export type GatewayConfig = typeof GatewayConfig.Type

/** In `control.v1` a client knows both of its keys, unless it has made them itself. */
const ownKeys = {
  wireguardPublicKey: WireguardKey.annotate({ description: "This client's own WireGuard public key." }),
  wireguardPrivateKey: Schema.optionalKey(wireguardPrivateKey).annotate({
    description: "The private key to it, known to nobody else; left out when the client brought its own key in `auth`."
  })
}

export const GatewayOfAgent = Schema.Struct({
  ...gatewayFields,
  endpoint: Schema.NullOr(Schema.String).annotate({
    description: "Where WireGuard reaches it, `publicIp:listenPort` (IPv6 in brackets); null as long as `publicIp` is."
  })
}).annotate({ identifier: "GatewayOfAgent", description: "A gateway as an agent sees it." })
export type GatewayOfAgent = typeof GatewayOfAgent.Type

export const AgentOfGateway = Schema.Struct({
  ...agentFields,
  gatewayVirtualIp: Schema.NullOr(Ipv4).annotate({
    description: "This gateway's own address inside the agent's subnet; null when the subnet has no room for it."
  })
}).annotate({ identifier: "AgentOfGateway", description: "An agent as a gateway sees it." })
export type AgentOfGateway = typeof AgentOfGateway.Type

export const AgentConfigV1 = Schema.Struct({
  agent: Schema.Struct({ ...ownAgentFields, ...ownKeys }).annotate({ description: "The agent itself." }),
  gateways: list(GatewayOfAgent, "Every gateway."),
  tunnels: ownTunnels
}).annotate({ identifier: "AgentConfigV1", description: "An agent's whole view in control.v1." })
export type AgentConfigV1 = typeof AgentConfigV1.Type

export const GatewayConfigV1 = Schema.Struct({
  gateway: Schema.Struct({
    id: GatewayId,
    name: stored("Its name."),
    listenPort: Schema.Int.annotate({ description: "The UDP port on which its WireGuard listens." }),
    ...ownKeys
  }).annotate({ description: "The gateway itself." }),
  agents: list(AgentOfGateway, "Every agent."),
  tunnels: everyTunnel,
  certificates: everyCertificate
}).annotate({ identifier: "GatewayConfigV1", description: "A gateway's whole view in control.v1." })
export type GatewayConfigV1 = typeof GatewayConfigV1.Type
