/** Any history of a small network: commands are drawn at random, and interpreted so that every row refers to rows that exist or not. */
import type { Change } from "#network/NetworkState.ts"
import { AgentId, GatewayId, KeyId, Revision, TunnelId } from "#schema/ids.ts"
import { Redacted, Schema } from "effect"

/** Few ids and few values, so that rows meet: `which` row, in which `variant`. */
export const Command = Schema.Struct({
  what: Schema.Literals([
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
  which: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 3 })),
  variant: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 5 }))
})
export type Command = typeof Command.Type

/** Never short: a history in which rows do not meet shows nothing. */
export const Commands = Schema.Array(Command).check(Schema.isBetweenLength(20, 60))

/** The changes that these commands commit, numbered from 1. */
export const changesOf = (commands: ReadonlyArray<Command>, from = 1): ReadonlyArray<Change> =>
  commands.map((command, index) => changeOf(command, Revision.make(from + index)))

export const agentIds = [0, 1, 2, 3].map((which) => AgentId.make(`a${which}`))
export const gatewayIds = [0, 1, 2, 3].map((which) => GatewayId.make(`g${which}`))

function changeOf({ what, which, variant }: Command, revision: Revision): Change {
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
          enabled: variant % 2 === 0
        }
      }
    case "tunnelGone":
      return { _tag: "TunnelRemoved", revision, id: TunnelId.make(`t${which}`) }
    case "certificate":
      return {
        _tag: "CertificatePut",
        revision,
        certificate: {
          domain: nameOf(which),
          certificate: `certificate ${variant}`,
          privateKey: Redacted.make(`certificate key of ${nameOf(which)} ${variant}`),
          expiresAt: "2030-01-01T00:00:00.000Z"
        }
      }
    case "certificateGone":
      return { _tag: "CertificateRemoved", revision, domain: nameOf(which) }
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

const nameOf = (which: number) => which === 3 ? "*.example.com" : `t${which}.example.com`

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
    // A size that Control does not give out is what somebody may have written by SQL.
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
    // There is no room for this one in a /24.
    slot: which === 2 ? 300 : which,
    serves: null,
    wireguardPublicKey: `public ${which}`,
    wireguardPrivateKey: Redacted.make(`private ${variant % 3}`)
  }
}
