/** Views: the parts of the network that a client may see, at each protocol level. */
import { Schema } from "effect"
import { storedText, tunnelFields, tunnelFieldsV1 } from "./sharedFields.ts"
import { AgentId, GatewayId, Ipv4, Ipv4Cidr, Timestamp, TunnelId, WireguardKey } from "./ids.ts"

const wireguardPrivateKey = WireguardKey.annotate({
  description: "This client's own WireGuard private key. No other client receives it."
})

/** Array with its own description and without a name in `$defs`. */
const arrayOf = <S extends Schema.Constraint>(of: S, description: string) => Schema.Array(of).annotate({ description })

export const AgentTunnel = Schema.Struct({ id: TunnelId, ...tunnelFields }).annotate({
  identifier: "AgentTunnel",
  description: "Tunnel in the view of its agent."
})
export type AgentTunnel = typeof AgentTunnel.Type

export const GatewayTunnel = Schema.Struct({
  id: TunnelId,
  domain: tunnelFields.domain,
  agentVirtualIp: Ipv4.annotate({ description: "Address of the tunnel's agent inside the network." }),
  target: tunnelFields.target,
  enabled: tunnelFields.enabled
}).annotate({ identifier: "GatewayTunnel", description: "Tunnel in the view of a gateway." })
export type GatewayTunnel = typeof GatewayTunnel.Type

export const AgentTunnelV1 = Schema.Struct({ id: TunnelId, ...tunnelFields, ...tunnelFieldsV1 }).annotate({
  identifier: "AgentTunnelV1",
  description: "Tunnel in the view of its agent in `control.v1`."
})
export type AgentTunnelV1 = typeof AgentTunnelV1.Type

export const GatewayTunnelV1 = Schema.Struct({ ...GatewayTunnel.fields, ...tunnelFieldsV1 }).annotate({
  identifier: "GatewayTunnelV1",
  description: "Tunnel in the view of a gateway in `control.v1`."
})
export type GatewayTunnelV1 = typeof GatewayTunnelV1.Type

const mtu = Schema.Int.annotate({
  description: "Largest packet inside the WireGuard tunnels, in bytes. Every client uses the same value."
})

const ownAgentFields = { id: AgentId, name: storedText("Display name."), virtualIp: Ipv4, subnet: Ipv4Cidr }

const gatewayFields = {
  id: GatewayId,
  name: storedText("Display name."),
  publicIp: Schema.NullOr(Schema.String).annotate({
    description: "IPv4 or IPv6 address; null until the gateway's address is known."
  }),
  wireguardPublicKey: WireguardKey,
  virtualIps: Schema.Array(Ipv4).annotate({
    description: "Address of the gateway inside this agent's subnet: none or one."
  })
}

const agentFields = {
  id: AgentId,
  name: storedText("Display name."),
  virtualIp: Ipv4,
  subnet: Ipv4Cidr,
  wireguardPublicKey: WireguardKey
}

export const CertificateOfDomain = Schema.Struct({
  domain: storedText("Host name of the certificate."),
  certificate: storedText("PEM: the certificate, followed by its chain."),
  privateKey: storedText("PEM: private key of the certificate."),
  expiresAt: Timestamp.annotate({ description: "Time of expiry, in UTC (RFC 3339)." })
})
export type CertificateOfDomain = typeof CertificateOfDomain.Type

const ownTunnels = arrayOf(AgentTunnel, "Tunnels of this agent.")
const everyTunnel = arrayOf(GatewayTunnel, "All tunnels in the view.")
const everyCertificate = arrayOf(CertificateOfDomain, "All certificates in the view.")

export const AgentConfig = Schema.Struct({
  agent: Schema.Struct({ ...ownAgentFields, wireguardPrivateKey }).annotate({ description: "This agent." }),
  gateways: arrayOf(Schema.Struct(gatewayFields), "All gateways in the view."),
  tunnels: ownTunnels
}).annotate({
  identifier: "AgentConfig",
  description: "Full view of an agent: itself, the gateways and its own tunnels."
})
export type AgentConfig = typeof AgentConfig.Type

export const GatewayConfig = Schema.Struct({
  gateway: Schema.Struct({ id: GatewayId, name: storedText("Display name."), wireguardPrivateKey }).annotate({
    description: "This gateway."
  }),
  agents: arrayOf(Schema.Struct(agentFields), "All agents in the view."),
  tunnels: everyTunnel,
  certificates: everyCertificate
}).annotate({
  identifier: "GatewayConfig",
  description: "Full view of a gateway: itself, the agents, tunnels and certificates."
})
export type GatewayConfig = typeof GatewayConfig.Type

/** WireGuard keys of a client in `control.v1`. The private key is absent if the client generated the pair. */
const ownKeys = {
  wireguardPublicKey: WireguardKey.annotate({ description: "This client's WireGuard public key." }),
  wireguardPrivateKey: Schema.optionalKey(wireguardPrivateKey).annotate({
    description:
      "The matching private key; no other client receives it. Absent if the client sent its own public key in `auth`."
  })
}

export const GatewayOfAgent = Schema.Struct({
  ...gatewayFields,
  endpoint: Schema.NullOr(Schema.String).annotate({
    description: "WireGuard endpoint, `publicIp:listenPort` (IPv6 in brackets); null while `publicIp` is null."
  })
}).annotate({ identifier: "GatewayOfAgent", description: "Gateway in the view of an agent." })
export type GatewayOfAgent = typeof GatewayOfAgent.Type

export const AgentOfGateway = Schema.Struct({
  ...agentFields,
  gatewayVirtualIp: Schema.NullOr(Ipv4).annotate({
    description: "Address of this gateway inside the agent's subnet; null if the subnet has no free address."
  })
}).annotate({ identifier: "AgentOfGateway", description: "Agent in the view of a gateway." })
export type AgentOfGateway = typeof AgentOfGateway.Type

export const AgentConfigV1 = Schema.Struct({
  mtu,
  agent: Schema.Struct({ ...ownAgentFields, ...ownKeys }).annotate({ description: "This agent." }),
  gateways: arrayOf(GatewayOfAgent, "All gateways in the view."),
  tunnels: arrayOf(AgentTunnelV1, "Tunnels of this agent.")
}).annotate({ identifier: "AgentConfigV1", description: "Full view of an agent in `control.v1`." })
export type AgentConfigV1 = typeof AgentConfigV1.Type

export const GatewayConfigV1 = Schema.Struct({
  mtu,
  gateway: Schema.Struct({
    id: GatewayId,
    name: storedText("Display name."),
    listenPort: Schema.Int.annotate({ description: "UDP port on which the gateway's WireGuard listens." }),
    ...ownKeys
  }).annotate({ description: "This gateway." }),
  agents: arrayOf(AgentOfGateway, "All agents in the view."),
  tunnels: arrayOf(GatewayTunnelV1, "All tunnels in the view."),
  certificates: everyCertificate
}).annotate({ identifier: "GatewayConfigV1", description: "Full view of a gateway in `control.v1`." })
export type GatewayConfigV1 = typeof GatewayConfigV1.Type
