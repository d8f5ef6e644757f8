/** What Control says. */
import { Schema } from "effect"
import { ErrorCode } from "./codes.ts"
import { message } from "./envelope.ts"
import { stored, tunnelFields } from "./fields.ts"
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

export const AgentConfig = Schema.Struct({
  agent: Schema.Struct({
    id: AgentId,
    name: stored("Its name."),
    virtualIp: Ipv4,
    subnet: Ipv4Cidr,
    wireguardPrivateKey
  }).annotate({ description: "The agent itself." }),
  gateways: list(
    Schema.Struct({
      id: GatewayId,
      name: stored("Its name."),
      publicIp: Schema.NullOr(Schema.String).annotate({
        description: "IPv4 or IPv6; null until the gateway's address is known."
      }),
      wireguardPublicKey: WireguardKey,
      virtualIps: Schema.Array(Ipv4).annotate({
        description: "The gateway's address inside this agent's subnet: none or one."
      })
    }),
    "Every gateway."
  ),
  tunnels: list(AgentTunnel, "The agent's own tunnels.")
}).annotate({
  identifier: "AgentConfig",
  description: "An agent's whole view: itself, every gateway, its own tunnels."
})
export type AgentConfig = typeof AgentConfig.Type

export const GatewayConfig = Schema.Struct({
  gateway: Schema.Struct({ id: GatewayId, name: stored("Its name."), wireguardPrivateKey }).annotate({
    description: "The gateway itself."
  }),
  agents: list(
    Schema.Struct({
      id: AgentId,
      name: stored("Its name."),
      virtualIp: Ipv4,
      subnet: Ipv4Cidr,
      wireguardPublicKey: WireguardKey
    }),
    "Every agent."
  ),
  tunnels: list(GatewayTunnel, "Every tunnel."),
  certificates: list(
    Schema.Struct({
      domain: stored("The host name that the certificate is for."),
      certificate: stored("PEM: the certificate, then its chain."),
      privateKey: stored("PEM: its private key."),
      expiresAt: Timestamp.annotate({ description: "When the certificate ends, in UTC (RFC 3339)." })
    }),
    "Every certificate."
  )
}).annotate({
  identifier: "GatewayConfig",
  description: "A gateway's whole view: itself, every agent, tunnel and certificate."
})
export type GatewayConfig = typeof GatewayConfig.Type

const exampleTunnel = { id: TunnelId.make("5f0c"), domain: "app.example.com", target: "localhost:8080", enabled: true }
const exampleKey = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="

export const AuthSuccess = message(
  "auth_success",
  "You are in. A `config` follows.",
  {
    agentId: Schema.optionalKey(AgentId).annotate({ description: "Present for an agent." }),
    gatewayId: Schema.optionalKey(GatewayId).annotate({ description: "Present for a gateway." }),
    message: Schema.String.annotate({ description: "For people." })
  },
  { agentId: AgentId.make("a1b2"), message: "Authentication successful" }
)

export const AuthError = message(
  "auth_error",
  "You are not in; the connection is closed. `Invalid API key` (4401, or 4410 if the client was deleted just then) or `Internal server error` (1013: the key may be right, try again later).",
  {
    message: Schema.Literals(["Invalid API key", "Internal server error"]).annotate({
      description: "One of these two texts; they stay the same between versions."
    })
  },
  { message: "Invalid API key" }
)

const configDescription = "The whole view. It replaces everything that the client knew."

export const ConfigForAgent = Schema.Struct({ type: Schema.Literal("config"), data: AgentConfig }).annotate({
  identifier: "config_agent",
  title: "config",
  description: configDescription,
  examples: [{
    type: "config",
    data: {
      agent: {
        id: AgentId.make("a1b2"),
        name: "home",
        virtualIp: "10.64.0.1",
        subnet: "10.64.0.0/24",
        wireguardPrivateKey: exampleKey
      },
      gateways: [{
        id: GatewayId.make("c3d4"),
        name: "edge-1",
        publicIp: "203.0.113.7",
        wireguardPublicKey: exampleKey,
        virtualIps: ["10.64.0.2"]
      }],
      tunnels: [exampleTunnel]
    }
  }]
})

export const ConfigForGateway = Schema.Struct({ type: Schema.Literal("config"), data: GatewayConfig }).annotate({
  identifier: "config_gateway",
  title: "config",
  description: configDescription,
  examples: [{
    type: "config",
    data: {
      gateway: { id: GatewayId.make("c3d4"), name: "edge-1", wireguardPrivateKey: exampleKey },
      agents: [{
        id: AgentId.make("a1b2"),
        name: "home",
        virtualIp: "10.64.0.1",
        subnet: "10.64.0.0/24",
        wireguardPublicKey: exampleKey
      }],
      tunnels: [{ ...exampleTunnel, agentVirtualIp: "10.64.0.1" }],
      certificates: [{
        domain: "app.example.com",
        certificate: "-----BEGIN CERTIFICATE-----\n…",
        privateKey: "-----BEGIN PRIVATE KEY-----\n…",
        expiresAt: "2026-05-01T12:00:00.000Z"
      }]
    }
  }]
})

/** The gateway's shape comes first: it is the agent's with one field more, and the first that fits is taken. */
const tunnelStep = <const Type extends string>(type: Type, description: string) =>
  Schema.Struct({ type: Schema.Literal(type), data: Schema.Union([GatewayTunnel, AgentTunnel]) }).annotate({
    identifier: type,
    title: type,
    description,
    examples: [
      { type, data: { ...exampleTunnel, agentVirtualIp: "10.64.0.1" } },
      { type, data: exampleTunnel }
    ] as never
  })

export const TunnelCreate = tunnelStep("tunnel_create", "A tunnel is new in your view (created, or moved to you).")
export const TunnelUpdate = tunnelStep(
  "tunnel_update",
  "A tunnel of your view has changed: the whole of it as it is now."
)
export const TunnelDelete = message(
  "tunnel_delete",
  "A tunnel has left your view (deleted, or moved to another agent).",
  { id: TunnelId },
  { id: TunnelId.make("5f0c") }
)

export const ErrorMessage = message(
  "error",
  "Your last message was not carried out. The connection stays open unless a close follows.",
  { code: ErrorCode, message: Schema.String.annotate({ description: "For people; programs go by `code`." }) },
  { code: "unknown_type", message: "unknown message type \"hello\"" }
)

export const ControlMessage = Schema.Union([
  AuthSuccess,
  AuthError,
  ConfigForGateway,
  ConfigForAgent,
  TunnelCreate,
  TunnelUpdate,
  TunnelDelete,
  ErrorMessage
])
export type ControlMessage = typeof ControlMessage.Type
