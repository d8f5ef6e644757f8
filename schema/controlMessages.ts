/** What Control says at the plain level. */
import { Schema } from "effect"
import { ErrorCode } from "./codes.ts"
import { message } from "./envelope.ts"
import { AgentId, GatewayId, TunnelId } from "./ids.ts"
import { AgentConfig, AgentTunnel, GatewayConfig, GatewayTunnel } from "./views.ts"

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
  "You are not in; the connection is closed. `Invalid API key` (4401, or 4410 if the client was deleted just then) or `Internal server error` (1013: the key may be right, try again later; 4429: too many sessions of one client).",
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
