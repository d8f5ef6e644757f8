/** Random change histories of a small network, whose rows refer to existing and to missing rows. */
import type { Change } from "#network/NetworkState.ts"
import { AgentId, GatewayId, KeyId, Revision, TunnelId } from "#schema/ids.ts"
import { Redacted, Schema } from "effect"

/** A change of one of few rows to one of few variants, so that changes affect the same rows. */
export const Command = Schema.Struct({
  kind: Schema.Literals([
    "agent",
    "agentGone",
    "gateway",
    "gatewayGone",
    "limit",
    "limit",
    "tunnel",
    "tunnel",
    "tunnelGone",
    "certificate",
    "certificateGone",
    "key",
    "keyGone"
  ]),
  row: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 3 })),
  variant: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 5 }))
})
export type Command = typeof Command.Type

/** At least 20 commands, because rows of a short history rarely affect each other. */
export const Commands = Schema.Array(Command).check(Schema.isBetweenLength(20, 60))

/** Converts commands to changes with consecutive revisions from `from`. */
export const toChanges = (commands: ReadonlyArray<Command>, from = 1): ReadonlyArray<Change> =>
  commands.map((command, index) => toChange(command, Revision.make(from + index)))

export const agentIds = [0, 1, 2, 3].map((which) => AgentId.make(`a${which}`))
export const gatewayIds = [0, 1, 2, 3].map((which) => GatewayId.make(`g${which}`))

function toChange({ kind: what, row: which, variant }: Command, revision: Revision): Change {
  switch (what) {
    case "agent":
      return { _tag: "AgentPut", revision, agent: agent(which, variant) }
    case "agentGone":
      return { _tag: "AgentRemoved", revision, id: AgentId.make(`a${which}`) }
    case "gateway":
      return { _tag: "GatewayPut", revision, gateway: gateway(which, variant) }
    case "limit":
      return { _tag: "GatewayPut", revision, gateway: { ...gateway(which, 1), serves: scopes[variant] ?? null } }
    case "gatewayGone":
      return { _tag: "GatewayRemoved", revision, id: GatewayId.make(`g${which}`) }
    case "tunnel":
      return {
        _tag: "TunnelPut",
        revision,
        tunnel: {
          id: TunnelId.make(`t${which}`),
          agentId: AgentId.make(`a${variant % 3}`),
          domain: `t${which}.example.com`,
          target: `localhost:${8000 + variant}`,
          enabled: variant % 2 === 0,
          name: variant % 3 === 0 ? `tunnel-${which}` : null,
          // A tunnel that changes its protocol enters the plain level's view or leaves it.
          protocol: protocols[variant % protocols.length] ?? "http",
          port: 20_000 + which,
          listenPort: variant % 4 === 2 ? 2_000 + which : null,
          proxyProtocol: variant % 5 === 0 ? "v2" : "none",
          tls: variant % 2 === 0 ? "verify" : "insecure"
        }
      }
    case "tunnelGone":
      return { _tag: "TunnelRemoved", revision, id: TunnelId.make(`t${which}`) }
    case "certificate":
      return {
        _tag: "CertificatePut",
        revision,
        certificate: {
          domain: certificateDomain(which),
          certificate: `certificate ${variant}`,
          privateKey: Redacted.make(`certificate key of ${certificateDomain(which)} ${variant}`),
          expiresAt: "2030-01-01T00:00:00.000Z"
        }
      }
    case "certificateGone":
      return { _tag: "CertificateRemoved", revision, domain: certificateDomain(which) }
    case "key":
      return {
        _tag: "KeyPut",
        revision,
        key: {
          id: KeyId.make(`k${which}`),
          hash: `hash ${which} ${variant}`,
          owner: { type: "agent", id: AgentId.make(`a${variant % 4}`) }
        }
      }
    case "keyGone":
      return { _tag: "KeyRemoved", revision, id: KeyId.make(`k${which}`) }
  }
}

const certificateDomain = (which: number) => which === 3 ? "*.example.com" : `t${which}.example.com`

const scope = (agents: ReadonlyArray<string>, domains: ReadonlyArray<string>) => ({
  agents: new Set(agents.map((id) => AgentId.make(id))),
  domains: new Set(domains)
})
const scopes = [
  null,
  scope([], []),
  scope(["a0"], []),
  scope(["a1", "a9"], ["t0.example.com"]),
  scope([], ["t1.example.com", "t2.example.com"]),
  scope(["a3"], ["*.example.com"])
]

function agent(which: number, variant: number) {
  return {
    id: AgentId.make(`a${which}`),
    name: `agent ${variant % 3}`,
    virtualIp: `10.64.${which}.${1 + variant % 2}`,
    // Control allocates only /24 subnets, but an operator can store another size by SQL.
    subnet: which === 3 ? "10.65.0.0/16" : `10.64.${which}.0/24`,
    wireguardPublicKey: `public ${which}`,
    wireguardPrivateKey: Redacted.make(`private ${variant}`)
  }
}

function gateway(which: number, variant: number) {
  return {
    id: GatewayId.make(`g${which}`),
    name: `gateway ${variant % 2}`,
    publicIp: variant % 3 === 0 ? null : `203.0.113.${variant}`,
    listenPort: 51820 + variant % 2,
    // A /24 subnet has no address for this slot.
    slot: which === 2 ? 300 : which,
    serves: null,
    wireguardPublicKey: `public ${which}`,
    wireguardPrivateKey: Redacted.make(`private ${variant % 3}`)
  }
}

const protocols = ["http", "tls", "http", "tcp", "udp"] as const
