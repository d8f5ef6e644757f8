/** Messages that Control sends at the plain level. */
import { Schema } from "effect"
import { ErrorCode } from "./codes.ts"
import { message } from "./envelope.ts"
import { AgentId, GatewayId, TunnelId } from "./ids.ts"
import { AgentConfig, AgentTunnel, GatewayConfig, GatewayTunnel } from "./views.ts"

const exampleTunnel = { id: TunnelId.make("5f0c"), domain: "app.example.com", target: "localhost:8080", enabled: true }
const exampleKey = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="

export const AuthSuccess = message(
  "auth_success",
  "Authenticated. A `config` follows.",
  {
    agentId: Schema.optionalKey(AgentId).annotate({ description: "Id of the agent; absent for a gateway." }),
    gatewayId: Schema.optionalKey(GatewayId).annotate({ description: "Id of the gateway; absent for an agent." }),
    message: Schema.String.annotate({ description: "Text for people." })
  },
  { agentId: AgentId.make("a1b2"), message: "Authentication successful" }
)

export const authErrorDescription =
  "Authentication failed, and the connection is closed. `Invalid API key`: 4401, or 4410 if the client was deleted a moment ago. `Internal server error`: 1013 if the key could not be checked (try again later). `Too many sessions`: 4429 after too many sessions of one client (reconnect after a minute)."

export const AuthError = message(
  "auth_error",
  authErrorDescription,
  {
    message: Schema.Literals(["Invalid API key", "Internal server error", "Too many sessions"]).annotate({
      description: "One of these texts. They stay the same between versions."
    })
  },
  { message: "Invalid API key" }
)

const configDescription = "The full view. It replaces everything that the client received before."

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

/** The gateway's shape comes first, because it has one field more than the agent's and the first match wins. */
const tunnelDelta = <const Type extends string>(type: Type, description: string) =>
  Schema.Struct({ type: Schema.Literal(type), data: Schema.Union([GatewayTunnel, AgentTunnel]) }).annotate({
    identifier: type,
    title: type,
    description,
    examples: [
      { type, data: { ...exampleTunnel, agentVirtualIp: "10.64.0.1" } },
      { type, data: exampleTunnel }
    ] as never
  })

export const TunnelCreate = tunnelDelta(
  "tunnel_create",
  "A tunnel was added to the view (created, or moved to this agent)."
)
export const TunnelUpdate = tunnelDelta(
  "tunnel_update",
  "A tunnel of the view has changed. Contains the whole tunnel."
)
export const TunnelDelete = message(
  "tunnel_delete",
  "A tunnel was removed from the view (deleted, or moved to another agent).",
  { id: TunnelId },
  { id: TunnelId.make("5f0c") }
)

export const ErrorMessage = message(
  "error",
  "The last message was not processed. The connection stays open unless a close follows.",
  { code: ErrorCode, message: Schema.String.annotate({ description: "Text for people; programs use `code`." }) },
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
