/** The whole network as one immutable value, and how a change makes the next one. Pure. */
import type { AgentId, GatewayId, KeyId, Revision, Timeline, TunnelId } from "#schema/ids.ts"
import { Equal, HashMap, Option, type Redacted } from "effect"
import * as History from "./History.ts"
import * as Limits from "./ScopeIndex.ts"
import * as Table from "./BucketMap.ts"

export interface Agent {
  readonly id: AgentId
  readonly name: string
  readonly virtualIp: string
  readonly subnet: string
  readonly wireguardPublicKey: string
  /** Null when the client has made its keys itself: then nobody else knows it. */
  readonly wireguardPrivateKey: Redacted.Redacted | null
}

export interface Gateway {
  readonly id: GatewayId
  readonly name: string
  /** Null until a gateway has told its address, or an operator has. */
  readonly publicIp: string | null
  readonly listenPort: number
  /** Which address of every agent's subnet is this gateway's; see `gatewayAddress`. */
  readonly slot: number
  /** What it is limited to; null when it serves every tunnel. */
  readonly serves: Limits.Serves | null
  readonly wireguardPublicKey: string
  /** As an agent's. */
  readonly wireguardPrivateKey: Redacted.Redacted | null
}

export interface Tunnel {
  readonly id: TunnelId
  readonly agentId: AgentId
  readonly domain: string
  readonly target: string
  readonly enabled: boolean
}

export interface Certificate {
  readonly domain: string
  readonly certificate: string
  readonly privateKey: Redacted.Redacted
  /** RFC 3339, UTC. */
  readonly expiresAt: string
}

/** A live API key: only its hash is known. */
export interface Key {
  readonly id: KeyId
  /** SHA-256 of the whole key, lower-case hex. */
  readonly hash: string
  readonly owner: { readonly type: "agent"; readonly id: AgentId } | {
    readonly type: "gateway"
    readonly id: GatewayId
  }
}

/** One committed change: the row as it is afterwards, or that it is gone. */
export type Change =
  & { readonly revision: Revision }
  & (
    | { readonly _tag: "AgentPut"; readonly agent: Agent }
    | { readonly _tag: "AgentRemoved"; readonly id: AgentId }
    | { readonly _tag: "GatewayPut"; readonly gateway: Gateway }
    | { readonly _tag: "GatewayRemoved"; readonly id: GatewayId }
    | { readonly _tag: "TunnelPut"; readonly tunnel: Tunnel }
    | { readonly _tag: "TunnelRemoved"; readonly id: TunnelId }
    | { readonly _tag: "CertificatePut"; readonly certificate: Certificate }
    | { readonly _tag: "CertificateRemoved"; readonly domain: string }
    | { readonly _tag: "KeyPut"; readonly key: Key }
    | { readonly _tag: "KeyRemoved"; readonly id: KeyId }
  )

export interface NetworkState {
  readonly timeline: Timeline
  readonly revision: Revision
  readonly agents: Table.BucketMap<AgentId, Agent>
  /** The agents' own addresses, which the gateways' view of a tunnel needs: the same value while no address changes. */
  readonly virtualIps: HashMap.HashMap<AgentId, string>
  readonly gateways: HashMap.HashMap<GatewayId, Gateway>
  readonly tunnels: Table.BucketMap<TunnelId, Tunnel>
  /** The same tunnels by agent, so that one agent's view does not cost a walk over all of them. */
  readonly tunnelsOf: HashMap.HashMap<AgentId, HashMap.HashMap<TunnelId, Tunnel>>
  readonly certificates: Table.BucketMap<string, Certificate>
  /** Undefined while no gateway is limited. */
  readonly limits: Limits.ScopeIndex<Gateway, Tunnel> | undefined
  readonly keys: HashMap.HashMap<KeyId, Key>
  readonly keysByHash: HashMap.HashMap<string, Key>
  /** What the latest changes touched. */
  readonly history: History.History
}

export const empty = (timeline: Timeline, revision: Revision): NetworkState => ({
  timeline,
  revision,
  agents: Table.empty(),
  virtualIps: HashMap.empty(),
  gateways: HashMap.empty(),
  tunnels: Table.empty(),
  tunnelsOf: HashMap.empty(),
  certificates: Table.empty(),
  limits: undefined,
  keys: HashMap.empty(),
  keysByHash: HashMap.empty(),
  history: History.none(revision)
})

/** Idempotent by revision: a wake-up and a catch-up may deliver a change twice, so anything not newer is ignored. */
export const apply = (state: NetworkState, change: Change): NetworkState => {
  if (change.revision <= state.revision) return state
  const touch = touchOf(state, change)
  return {
    ...putRow(state, change),
    revision: change.revision,
    history: touch === undefined ? state.history : History.append(state.history, touch)
  }
}

/** The state that a whole reading of the rows gives, all of them as of one revision, with what is kept of the changes before. */
export const load = (
  timeline: Timeline,
  revision: Revision,
  rows: ReadonlyArray<Change>,
  history: History.History = History.none(revision)
): NetworkState => ({ ...rows.reduce(putRow, empty(timeline, revision)), revision, history })

/** What a change touches, seen from the state before it; the log keeps the same facts (see `control_record_change`). */
function touchOf(before: NetworkState, change: Change): History.Touch | undefined {
  const { revision } = change
  const plain = { revision, agents: [], own: false, renumbered: false }
  switch (change._tag) {
    case "AgentPut": {
      const old = Option.getOrUndefined(Table.get(before.agents, change.agent.id))
      const renumbered = old === undefined
        ? HashMap.has(before.tunnelsOf, change.agent.id)
        : old.virtualIp !== change.agent.virtualIp || old.subnet !== change.agent.subnet
      return { ...plain, entity: "agent", id: change.agent.id, own: !Equal.equals(old, change.agent), renumbered }
    }
    case "GatewayPut": {
      const old = Option.getOrUndefined(HashMap.get(before.gateways, change.gateway.id))
      const own = old === undefined || !Equal.equals({ ...old, publicIp: null }, { ...change.gateway, publicIp: null })
      return { ...plain, entity: "gateway", id: change.gateway.id, own }
    }
    case "TunnelPut":
      return {
        ...plain,
        entity: "tunnel",
        id: change.tunnel.id,
        agents: [...ownersOf(before, change.tunnel.id), change.tunnel.agentId],
        domains: [...domainsOf(before, change.tunnel.id), change.tunnel.domain]
      }
    case "TunnelRemoved":
      return {
        ...plain,
        entity: "tunnel",
        id: change.id,
        agents: ownersOf(before, change.id),
        domains: domainsOf(before, change.id)
      }
    case "AgentRemoved":
      return { ...plain, entity: "agent", id: change.id, renumbered: HashMap.has(before.tunnelsOf, change.id) }
    case "GatewayRemoved":
      return { ...plain, entity: "gateway", id: change.id }
    case "CertificatePut":
      return { ...plain, entity: "certificate", id: change.certificate.domain }
    case "CertificateRemoved":
      return { ...plain, entity: "certificate", id: change.domain }
    case "KeyPut":
    case "KeyRemoved":
      return undefined
  }
}

function ownersOf(state: NetworkState, id: TunnelId): ReadonlyArray<AgentId> {
  const tunnel = Table.get(state.tunnels, id)
  return Option.isNone(tunnel) ? [] : [tunnel.value.agentId]
}

function domainsOf(state: NetworkState, id: TunnelId): ReadonlyArray<string> {
  const tunnel = Table.get(state.tunnels, id)
  return Option.isNone(tunnel) ? [] : [tunnel.value.domain]
}

/** The row alone, without its place in the history. */
export function putRow(state: NetworkState, change: Change): NetworkState {
  switch (change._tag) {
    case "AgentPut":
      return putAgent(state, change.agent)
    case "AgentRemoved":
      return {
        ...state,
        agents: Table.remove(state.agents, change.id),
        virtualIps: HashMap.remove(state.virtualIps, change.id)
      }
    case "GatewayPut":
      return {
        ...state,
        gateways: HashMap.set(state.gateways, change.gateway.id, change.gateway),
        limits: Limits.withGateway(state.limits, change.gateway, () => Table.values(state.tunnels))
      }
    case "GatewayRemoved":
      return {
        ...state,
        gateways: HashMap.remove(state.gateways, change.id),
        limits: Limits.withoutGateway(state.limits, change.id)
      }
    case "TunnelPut":
      return putTunnel(removeTunnel(state, change.tunnel.id), change.tunnel)
    case "TunnelRemoved":
      return removeTunnel(state, change.id)
    case "CertificatePut":
      return { ...state, certificates: Table.set(state.certificates, change.certificate.domain, change.certificate) }
    case "CertificateRemoved":
      return { ...state, certificates: Table.remove(state.certificates, change.domain) }
    case "KeyPut":
      return putKey(removeKey(state, change.key.id), change.key)
    case "KeyRemoved":
      return removeKey(state, change.id)
  }
}

function putAgent(state: NetworkState, agent: Agent): NetworkState {
  const known = HashMap.get(state.virtualIps, agent.id)
  const isSame = Option.isSome(known) && known.value === agent.virtualIp
  return {
    ...state,
    agents: Table.set(state.agents, agent.id, agent),
    virtualIps: isSame ? state.virtualIps : HashMap.set(state.virtualIps, agent.id, agent.virtualIp)
  }
}

function putTunnel(state: NetworkState, tunnel: Tunnel): NetworkState {
  const siblings = Option.getOrElse(
    HashMap.get(state.tunnelsOf, tunnel.agentId),
    () => HashMap.empty<TunnelId, Tunnel>()
  )
  return {
    ...state,
    tunnels: Table.set(state.tunnels, tunnel.id, tunnel),
    tunnelsOf: HashMap.set(state.tunnelsOf, tunnel.agentId, HashMap.set(siblings, tunnel.id, tunnel)),
    limits: state.limits && Limits.withTunnel(state.limits, tunnel)
  }
}

function removeTunnel(state: NetworkState, id: TunnelId): NetworkState {
  const tunnel = Table.get(state.tunnels, id)
  if (Option.isNone(tunnel)) return state
  const { agentId } = tunnel.value
  const siblings = Option.map(HashMap.get(state.tunnelsOf, agentId), HashMap.remove(id))
  return {
    ...state,
    tunnels: Table.remove(state.tunnels, id),
    limits: state.limits && Limits.withoutTunnel(state.limits, tunnel.value),
    tunnelsOf: Option.match(siblings, {
      onNone: () => state.tunnelsOf,
      onSome: (rest) =>
        HashMap.isEmpty(rest) ? HashMap.remove(state.tunnelsOf, agentId) : HashMap.set(state.tunnelsOf, agentId, rest)
    })
  }
}

function putKey(state: NetworkState, key: Key): NetworkState {
  return {
    ...state,
    keys: HashMap.set(state.keys, key.id, key),
    keysByHash: HashMap.set(state.keysByHash, key.hash, key)
  }
}

function removeKey(state: NetworkState, id: KeyId): NetworkState {
  const key = HashMap.get(state.keys, id)
  return Option.isNone(key) ? state : {
    ...state,
    keys: HashMap.remove(state.keys, id),
    keysByHash: HashMap.remove(state.keysByHash, key.value.hash)
  }
}
