/** Messages that Control sends in `control.v1`: plain messages with more fields, and new ones. */
import { Schema } from "effect"
import { AuthError, authErrorDescription, AuthSuccess, ErrorMessage } from "./messagesFromControl.ts"
import { message } from "./envelope.ts"
import { AgentId, GatewayId, Revision, SessionId, Timeline, Timestamp, TunnelId } from "./ids.ts"
import {
  AgentConfigV1,
  AgentOfGateway,
  AgentTunnelV1,
  CertificateOfDomain,
  GatewayConfigV1,
  GatewayOfAgent,
  GatewayTunnelV1
} from "./views.ts"

const milliseconds = (description: string) => Schema.Int.annotate({ description })

const timeline = Timeline.make("6b0c2a52-9f7e-4d57-8a54-3f6a4b1c7d10")
const revision = Revision.make(58)
const previous = Revision.make(42)
const key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
const tunnel = {
  id: TunnelId.make("5f0c"),
  name: null,
  domain: "app.example.com",
  target: "localhost:8080",
  enabled: true,
  protocol: "http" as const,
  port: 20_000,
  listenPort: null,
  proxyProtocol: "none" as const,
  tls: "verify" as const
}
const gateway = {
  id: GatewayId.make("c3d4"),
  name: "edge-1",
  publicIp: "203.0.113.7",
  wireguardPublicKey: key,
  virtualIps: ["10.64.0.2"],
  endpoint: "203.0.113.7:51820"
}
const agent = {
  id: AgentId.make("a1b2"),
  name: "home",
  virtualIp: "10.64.0.1",
  subnet: "10.64.0.0/24",
  wireguardPublicKey: key,
  gatewayVirtualIp: "10.64.0.2"
}
const certificate = {
  domain: "app.example.com",
  certificate: "-----BEGIN CERTIFICATE-----\n…",
  privateKey: "-----BEGIN PRIVATE KEY-----\n…",
  expiresAt: "2026-05-01T12:00:00.000Z"
}

/** Fields that `control.v1` adds to `auth_success`: the parameters of the connection. */
export const authSuccessFieldsV1 = {
  sessionId: SessionId.annotate({
    description: "Id of this connection in Control's events and in its `debug` log."
  }),
  timeline: Timeline.annotate({
    description: "Timeline of the revisions on this connection, until a `config` names another one."
  }),
  resumed: Schema.Boolean.annotate({
    description: "True: only the missed changes follow, if there are any. False: a `config` follows."
  }),
  heartbeat: Schema.Struct({
    intervalMs: milliseconds("Time between two `heartbeat` messages, in milliseconds."),
    timeoutMs: milliseconds("Longest silence before Control closes the connection, in milliseconds.")
  }).annotate({ description: "Timing of heartbeats." }),
  limits: Schema.Struct({
    maxMessageBytes: Schema.Int.annotate({ description: "Size of the largest accepted message, in bytes." }),
    maxMessagesPerSecond: Schema.Int.annotate({ description: "Sustained rate of accepted messages, per second." })
  }).annotate({ description: "Limits for the client's messages." }),
  server: Schema.Struct({
    version: Schema.String.annotate({ description: "Version of Control." }),
    node: Schema.String.annotate({ description: "Id of the node; new for each start of a process." })
  }).annotate({ description: "The server at the other end." })
}

export const AuthSuccessV1 = message(
  "auth_success",
  "Authenticated. The missed changes follow if `resumed` is true, otherwise a `config`.",
  { ...AuthSuccess.fields.data.fields, ...authSuccessFieldsV1 },
  {
    agentId: AgentId.make("a1b2"),
    message: "Authentication successful",
    sessionId: SessionId.make("0d7f2f0e-6a52-4d0f-9b1e-2b1f3a8c5e11"),
    timeline,
    resumed: true,
    heartbeat: { intervalMs: 20_000, timeoutMs: 60_000 },
    limits: { maxMessageBytes: 262_144, maxMessagesPerSecond: 50 },
    server: { version: "0.2.0", node: "8c1d" }
  }
).annotate({ identifier: "auth_success_v1" })

const configDescription =
  "The full view at this revision of this timeline. It replaces everything that the client received before."

const configPositionFields = {
  revision: Revision.annotate({ description: "Revision of the view, and the client's new position." }),
  timeline: Timeline.annotate({ description: "Timeline of this and the following revisions." })
}

const config = <const Who extends string, S extends Schema.Top>(who: Who, data: S, example: NoInfer<S["Type"]>) =>
  Schema.Struct({ type: Schema.Literal("config"), ...configPositionFields, data }).annotate({
    identifier: `config_${who}_v1`,
    title: "config",
    description: configDescription,
    examples: [{ type: "config", revision, timeline, data: example } as never]
  })

export const ConfigForAgentV1 = config("agent", AgentConfigV1, {
  mtu: 1_280,
  agent: {
    id: agent.id,
    name: agent.name,
    virtualIp: agent.virtualIp,
    subnet: agent.subnet,
    wireguardPublicKey: key,
    wireguardPrivateKey: key
  },
  gateways: [gateway],
  tunnels: [tunnel]
})

export const ConfigForGatewayV1 = config("gateway", GatewayConfigV1, {
  mtu: 1_280,
  gateway: { id: gateway.id, name: gateway.name, listenPort: 51_820, wireguardPublicKey: key },
  agents: [agent],
  tunnels: [{ ...tunnel, agentVirtualIp: agent.virtualIp }],
  certificates: [certificate]
})

const deltaPositionFields = {
  revision: Revision.annotate({ description: "Revision of the change, and the client's position after this message." }),
  previous: Revision.annotate({
    description: "Revision of the preceding `config` or delta on this connection, or the revision resumed from."
  })
}

/** A delta of a view: one row with the revision of its change and the revision before it. */
const delta = <const Type extends string, S extends Schema.Top>(
  type: Type,
  description: string,
  data: S,
  ...examples: ReadonlyArray<NoInfer<S["Type"]>>
) =>
  Schema.Struct({ type: Schema.Literal(type), ...deltaPositionFields, data }).annotate({
    identifier: `${type}_v1`,
    title: type,
    description,
    examples: examples.map((example) => ({ type, revision, previous, data: example })) as never
  })

const idOnly = <S extends Schema.Top>(id: S) => Schema.Struct({ id })

/** The gateway's shape comes first, because it has one field more than the agent's and the first match wins. */
const Tunnel = Schema.Union([GatewayTunnelV1, AgentTunnelV1])
const tunnels = [{ ...tunnel, agentVirtualIp: agent.virtualIp }, tunnel]

export const deltas = [
  delta("tunnel_create", "A tunnel was added to the view (created, or moved to this agent).", Tunnel, ...tunnels),
  delta("tunnel_update", "Current state of a tunnel in the view, with all fields.", Tunnel, ...tunnels),
  delta("tunnel_delete", "The tunnel is not, or no longer, in the view.", idOnly(TunnelId), { id: tunnel.id }),
  delta("agent_create", "An agent was added to the view.", AgentOfGateway, agent),
  delta("agent_update", "Current state of an agent in the view, with all fields.", AgentOfGateway, agent),
  delta("agent_delete", "The agent is not, or no longer, in the view.", idOnly(AgentId), { id: agent.id }),
  delta("gateway_create", "A gateway was added to the view.", GatewayOfAgent, gateway),
  delta("gateway_update", "Current state of a gateway in the view, with all fields.", GatewayOfAgent, gateway),
  delta("gateway_delete", "The gateway is not, or no longer, in the view.", idOnly(GatewayId), { id: gateway.id }),
  delta("certificate_create", "A certificate was added to the view.", CertificateOfDomain, certificate),
  delta(
    "certificate_update",
    "Current certificate of a domain in the view, with all fields.",
    CertificateOfDomain,
    certificate
  ),
  delta(
    "certificate_delete",
    "The certificate of this domain is not, or no longer, in the view.",
    Schema.Struct({ domain: CertificateOfDomain.fields.domain }),
    { domain: certificate.domain }
  )
] as const

export const CertificateAccepted = message(
  "certificate_accepted",
  "Receipt for a `certificate_obtained` whose certificate is stored. Repeat `certificate_obtained` until this message arrives.",
  { domain: CertificateOfDomain.fields.domain },
  { domain: certificate.domain }
)

export const HeartbeatAck = message(
  "heartbeat_ack",
  "Answer to `heartbeat`.",
  {
    timestamp: Schema.Finite.annotate({ description: "The `timestamp` of the heartbeat." }),
    serverTime: Timestamp.annotate({ description: "Control's clock (RFC 3339); informational only." }),
    revision: Revision.annotate({
      description:
        "Newest revision sent on this connection, or the revision resumed from. A client at an older revision has missed something and sends `resync`."
    })
  },
  { timestamp: 1_769_860_800_000, serverTime: "2026-01-31T12:00:00.000Z", revision }
)

export const AuthErrorV1 = message(
  "auth_error",
  authErrorDescription,
  {
    ...AuthError.fields.data.fields,
    code: Schema.optionalKey(Schema.Literal("rate_limited")).annotate({
      description: "With `Too many sessions`: the key is valid, but its client begins too many sessions."
    }),
    retryAfterMs: Schema.optionalKey(
      milliseconds("With `code`: delay in milliseconds before the client should connect again.")
    )
  },
  { message: "Too many sessions", code: "rate_limited", retryAfterMs: 60_000 }
).annotate({ identifier: "auth_error_v1" })

export const Drain = message(
  "drain",
  "Control is shutting down and closes the connection (1012) right after this message. Reconnect after the given delay.",
  {
    reconnectAfterMs: milliseconds("Delay before reconnecting, in milliseconds; different for each client.")
  },
  { reconnectAfterMs: 1_250 }
)

export const ControlMessageV1 = Schema.Union([
  AuthSuccessV1,
  AuthErrorV1,
  ConfigForGatewayV1,
  ConfigForAgentV1,
  ...deltas,
  CertificateAccepted,
  HeartbeatAck,
  Drain,
  ErrorMessage
])
export type ControlMessageV1 = typeof ControlMessageV1.Type
