/** Frames of Control, for tests of the client library. */
import { httpTunnelFields } from "#support/tunnelFields.ts"

const key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
export const timeline = "6b0c2a52-9f7e-4d57-8a54-3f6a4b1c7d10"

export interface ConfigFields {
  readonly revision: number
  readonly timeline?: string
  readonly id?: string
  readonly tunnels?: ReadonlyArray<string>
}

const tunnel = (id: string, target = "localhost:8080") => ({
  id,
  domain: `${id}.example.com`,
  target,
  enabled: true,
  ...httpTunnelFields
})

export const agentConfig = (fields: ConfigFields) => ({
  type: "config",
  revision: fields.revision,
  timeline: fields.timeline ?? timeline,
  data: {
    mtu: 1_280,
    agent: {
      id: fields.id ?? "a1",
      name: "home",
      virtualIp: "10.64.0.1",
      subnet: "10.64.0.0/24",
      wireguardPublicKey: key,
      wireguardPrivateKey: key
    },
    gateways: [],
    tunnels: (fields.tunnels ?? []).map((id) => tunnel(id))
  }
})

export const gatewayConfig = (fields: ConfigFields) => ({
  type: "config",
  revision: fields.revision,
  timeline: fields.timeline ?? timeline,
  data: {
    mtu: 1_280,
    gateway: { id: fields.id ?? "g1", name: "edge", listenPort: 51_820, wireguardPublicKey: key },
    agents: [],
    tunnels: [],
    certificates: []
  }
})

export const tunnelDelta = (
  kind: "create" | "update" | "delete",
  delta: { readonly id: string; readonly revision: number; readonly previous: number; readonly target?: string }
) => ({
  type: `tunnel_${kind}`,
  revision: delta.revision,
  previous: delta.previous,
  data: kind === "delete" ? { id: delta.id } : tunnel(delta.id, delta.target)
})

export const authSuccess = (fields: {
  readonly resumed: boolean
  readonly id?: string
  readonly type?: "agent" | "gateway"
  readonly timeline?: string
}) => ({
  type: "auth_success",
  data: {
    [fields.type === "gateway" ? "gatewayId" : "agentId"]: fields.id ?? (fields.type === "gateway" ? "g1" : "a1"),
    message: "Authentication successful",
    sessionId: "s1",
    timeline: fields.timeline ?? timeline,
    resumed: fields.resumed,
    heartbeat: { intervalMs: 20_000, timeoutMs: 60_000 },
    limits: { maxMessageBytes: 262_144, maxMessagesPerSecond: 50 },
    server: { version: "0", node: "n" }
  }
})

export const heartbeatAck = (revision: number) => ({
  type: "heartbeat_ack",
  data: { timestamp: 0, serverTime: "2026-01-31T12:00:00.000Z", revision }
})
