/** What Control says in `control.v1`: the plain level's messages with more in them, and some of its own. */
import { Schema } from "effect"
import { AuthError, AuthSuccess, ErrorMessage } from "./controlMessages.ts"
import { message } from "./envelope.ts"
import { AgentId, GatewayId, Revision, SessionId, Timeline, Timestamp, TunnelId } from "./ids.ts"
import {
  AgentConfigV1,
  AgentOfGateway,
  AgentTunnel,
  CertificateOfDomain,
  GatewayConfigV1,
  GatewayOfAgent,
  GatewayTunnel
} from "./views.ts"

const milliseconds = (description: string) => Schema.Int.annotate({ description })

const timeline = Timeline.make("6b0c2a52-9f7e-4d57-8a54-3f6a4b1c7d10")
const revision = Revision.make(58)
const previous = Revision.make(42)
const key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
const tunnel = { id: TunnelId.make("5f0c"), domain: "app.example.com", target: "localhost:8080", enabled: true }
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

/** Facts about the connection that its client should go by. */
export const welcomeFields = {
  sessionId: SessionId.annotate({
    description: "Names this connection in Control's events, and in its log at `debug`."
  }),
  timeline: Timeline.annotate({
    description: "The history that revisions on this connection are of, until a `config` names another."
  }),
  resumed: Schema.Boolean.annotate({
    description: "True: only what you missed follows, if anything. False: a `config` follows."
  }),
  heartbeat: Schema.Struct({
    intervalMs: milliseconds("How often to send `heartbeat`, in milliseconds."),
    timeoutMs: milliseconds("How long you may be silent, in milliseconds.")
  }).annotate({ description: "What is expected of your heartbeats." }),
  limits: Schema.Struct({
    maxMessageBytes: Schema.Int.annotate({ description: "The largest message that is read, in bytes." }),
    maxMessagesPerSecond: Schema.Int.annotate({ description: "How many messages a second are read in the long run." })
  }).annotate({ description: "What is not exceeded by a client that wants to stay." }),
  server: Schema.Struct({
    version: Schema.String.annotate({ description: "The version of Control." }),
    node: Schema.String.annotate({ description: "Which of its processes this is." })
  }).annotate({ description: "Who answers." })
}

export const AuthSuccessV1 = message(
  "auth_success",
  "You are in. What you missed follows if you were `resumed`, else a `config`.",
  { ...AuthSuccess.fields.data.fields, ...welcomeFields },
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
  "The whole view, as of this revision of this timeline. It replaces everything that the client knew."

const placeOfConfig = {
  revision: Revision.annotate({ description: "The view is as of this revision: that is where you are from now on." }),
  timeline: Timeline.annotate({ description: "The history that the revision is of, from now on." })
}

const config = <const Who extends string, S extends Schema.Top>(who: Who, data: S, example: NoInfer<S["Type"]>) =>
  Schema.Struct({ type: Schema.Literal("config"), ...placeOfConfig, data }).annotate({
    identifier: `config_${who}_v1`,
    title: "config",
    description: configDescription,
    examples: [{ type: "config", revision, timeline, data: example } as never]
  })

export const ConfigForAgentV1 = config("agent", AgentConfigV1, {
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
  gateway: { id: gateway.id, name: gateway.name, listenPort: 51_820, wireguardPublicKey: key },
  agents: [agent],
  tunnels: [{ ...tunnel, agentVirtualIp: agent.virtualIp }],
  certificates: [certificate]
})

const placeOfStep = {
  revision: Revision.annotate({ description: "Where this step brings you." }),
  previous: Revision.annotate({
    description:
      "Where you must have been: the revision of the message before it on this connection, or the resumed one."
  })
}

/** One step of a view: what has changed, at which revision, after which one. */
const step = <const Type extends string, S extends Schema.Top>(
  type: Type,
  description: string,
  data: S,
  ...examples: ReadonlyArray<NoInfer<S["Type"]>>
) =>
  Schema.Struct({ type: Schema.Literal(type), ...placeOfStep, data }).annotate({
    identifier: `${type}_v1`,
    title: type,
    description,
    examples: examples.map((example) => ({ type, revision, previous, data: example })) as never
  })

const idOnly = <S extends Schema.Top>(id: S) => Schema.Struct({ id })

/** The gateway's shape comes first: it is the agent's with one field more, and the first that fits is taken. */
const Tunnel = Schema.Union([GatewayTunnel, AgentTunnel])
const tunnels = [{ ...tunnel, agentVirtualIp: agent.virtualIp }, tunnel]

export const steps = [
  step("tunnel_create", "A tunnel is new in your view (created, or moved to you).", Tunnel, ...tunnels),
  step("tunnel_update", "A tunnel of your view: the whole of it as it is now.", Tunnel, ...tunnels),
  step("tunnel_delete", "A tunnel is not, or no longer, in your view.", idOnly(TunnelId), { id: tunnel.id }),
  step("agent_create", "An agent is new.", AgentOfGateway, agent),
  step("agent_update", "An agent: the whole of it as it is now.", AgentOfGateway, agent),
  step("agent_delete", "There is no such agent any more.", idOnly(AgentId), { id: agent.id }),
  step("gateway_create", "A gateway is new.", GatewayOfAgent, gateway),
  step("gateway_update", "A gateway: the whole of it as it is now.", GatewayOfAgent, gateway),
  step("gateway_delete", "There is no such gateway any more.", idOnly(GatewayId), { id: gateway.id }),
  step("certificate_create", "A domain has its first certificate.", CertificateOfDomain, certificate),
  step("certificate_update", "A domain's certificate: the whole of it as it is now.", CertificateOfDomain, certificate),
  step(
    "certificate_delete",
    "The domain has no certificate any more.",
    Schema.Struct({ domain: CertificateOfDomain.fields.domain }),
    { domain: certificate.domain }
  )
] as const

export const CertificateAccepted = message(
  "certificate_accepted",
  "The certificate that you sent for this domain is stored. Until this comes, send it again after a while.",
  { domain: CertificateOfDomain.fields.domain },
  { domain: certificate.domain }
)

export const HeartbeatAck = message(
  "heartbeat_ack",
  "The answer to `heartbeat`.",
  {
    timestamp: Schema.Finite.annotate({ description: "The `timestamp` of the heartbeat that this answers." }),
    serverTime: Timestamp.annotate({ description: "Control's clock (RFC 3339); for information only." }),
    revision: Revision.annotate({
      description:
        "The newest revision that you were brought to on this connection, or resumed at. If yours is older, something is missing: send `resync`."
    })
  },
  { timestamp: 1_769_860_800_000, serverTime: "2026-01-31T12:00:00.000Z", revision }
)

export const Drain = message(
  "drain",
  "Control is stopping: the connection is closed (1012) right after this. Come back when your own delay is over.",
  {
    reconnectAfterMs: milliseconds("How long to wait before you reconnect, in milliseconds: different for each client.")
  },
  { reconnectAfterMs: 1_250 }
)

export const ControlMessageV1 = Schema.Union([
  AuthSuccessV1,
  AuthError,
  ConfigForGatewayV1,
  ConfigForAgentV1,
  ...steps,
  CertificateAccepted,
  HeartbeatAck,
  Drain,
  ErrorMessage
])
export type ControlMessageV1 = typeof ControlMessageV1.Type
