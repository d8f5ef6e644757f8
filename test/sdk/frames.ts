/** What Control might say, for tests of the client. */

const key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
export const timeline = "6b0c2a52-9f7e-4d57-8a54-3f6a4b1c7d10"

export interface ConfigChoice {
  readonly revision: number
  readonly timeline?: string
  readonly id?: string
  readonly tunnels?: ReadonlyArray<string>
}

const tunnel = (id: string, target = "localhost:8080") => ({ id, domain: `${id}.example.com`, target, enabled: true })

export const agentConfig = (choice: ConfigChoice) => ({
  type: "config",
  revision: choice.revision,
  timeline: choice.timeline ?? timeline,
  data: {
    agent: {
      id: choice.id ?? "a1",
      name: "home",
      virtualIp: "10.64.0.1",
      subnet: "10.64.0.0/24",
      wireguardPublicKey: key,
      wireguardPrivateKey: key
    },
    gateways: [],
    tunnels: (choice.tunnels ?? []).map((id) => tunnel(id))
  }
})

export const gatewayConfig = (choice: ConfigChoice) => ({
  type: "config",
  revision: choice.revision,
  timeline: choice.timeline ?? timeline,
  data: {
    gateway: { id: choice.id ?? "g1", name: "edge", listenPort: 51_820, wireguardPublicKey: key },
    agents: [],
    tunnels: [],
    certificates: []
  }
})

export const tunnelStep = (
  kind: "create" | "update" | "delete",
  step: { readonly id: string; readonly revision: number; readonly previous: number; readonly target?: string }
) => ({
  type: `tunnel_${kind}`,
  revision: step.revision,
  previous: step.previous,
  data: kind === "delete" ? { id: step.id } : tunnel(step.id, step.target)
})

export const welcome = (choice: {
  readonly resumed: boolean
  readonly id?: string
  readonly type?: "agent" | "gateway"
  readonly timeline?: string
}) => ({
  type: "auth_success",
  data: {
    [choice.type === "gateway" ? "gatewayId" : "agentId"]: choice.id ?? (choice.type === "gateway" ? "g1" : "a1"),
    message: "Authentication successful",
    sessionId: "s1",
    timeline: choice.timeline ?? timeline,
    resumed: choice.resumed,
    heartbeat: { intervalMs: 20_000, timeoutMs: 60_000 },
    limits: { maxMessageBytes: 262_144, maxMessagesPerSecond: 50 },
    server: { version: "0", node: "n" }
  }
})

export const heartbeatAck = (revision: number) => ({
  type: "heartbeat_ack",
  data: { timestamp: 0, serverTime: "2026-01-31T12:00:00.000Z", revision }
})
