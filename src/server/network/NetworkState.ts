/** The whole network as one immutable value, and the transition that applies a change. Pure. */
import type { TunnelProtocol } from "#schema/sharedFields.ts"
import type { AgentId, GatewayId, KeyId, Revision, Timeline, TunnelId } from "#schema/ids.ts"
import { Equal, HashMap, Option, type Redacted } from "effect"
import * as History from "./History.ts"
import * as ScopeIndex from "./ScopeIndex.ts"
import * as BucketMap from "./BucketMap.ts"

export interface Agent {
  readonly id: AgentId
  readonly name: string
  readonly virtualIp: string
  readonly subnet: string
  readonly wireguardPublicKey: string
  /** Null if the client generated its keys, so that only the client knows the private key. */
  readonly wireguardPrivateKey: Redacted.Redacted | null
}

export interface Gateway {
  readonly id: GatewayId
  readonly name: string
  /** Null until the gateway reports its address or an operator sets it. */
  readonly publicIp: string | null
  readonly listenPort: number
  /** Index of this gateway's address in every agent's subnet; see `gatewayAddresses`. */
  readonly slot: number
  /** The gateway's scope; null if it serves every tunnel. */
  readonly serves: ScopeIndex.Serves | null
  readonly wireguardPublicKey: string
  /** See `Agent.wireguardPrivateKey`. */
  readonly wireguardPrivateKey: Redacted.Redacted | null
}

export interface Tunnel {
  readonly id: TunnelId
  readonly agentId: AgentId
  /** Unique; null for a tunnel without a name. */
  readonly name: string | null
  /** Empty for a tcp or udp tunnel without a DNS name. */
  readonly domain: string
  readonly target: string
  readonly enabled: boolean
  readonly protocol: TunnelProtocol
  /** TCP or UDP port at the agent's address in the network; 0 in rows that are older than the column. */
  readonly port: number
  /** Public port at the gateways; null for http and tls. */
  readonly listenPort: number | null
  readonly proxyProtocol: "none" | "v1" | "v2"
  readonly tls: "verify" | "insecure"
}

export interface Certificate {
  readonly domain: string
  readonly certificate: string
  readonly privateKey: Redacted.Redacted
  /** RFC 3339, UTC. */
  readonly expiresAt: string
}

/** A live API key, of which only the hash is known. */
export interface Key {
  readonly id: KeyId
  /** SHA-256 of the whole key, lower-case hex. */
  readonly hash: string
  readonly owner: { readonly type: "agent"; readonly id: AgentId } | {
    readonly type: "gateway"
    readonly id: GatewayId
  }
}

/** One committed change: the row after it, or the id of the removed row. */
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

/** Every index below describes the same rows, at `revision` of `timeline`. */
export interface NetworkState {
  /** Largest packet inside the WireGuard tunnels, in bytes. It is a setting, the same for every client. */
  readonly mtu: number
  /** Identity of the history that `revision` belongs to. */
  readonly timeline: Timeline
  /** Every change up to this revision is applied, and none after it. */
  readonly revision: Revision
  readonly agents: BucketMap.BucketMap<AgentId, Agent>
  /** `virtualIp` of each agent in `agents`; stays the same object while no address changes, so that caches can compare it. */
  readonly virtualIps: HashMap.HashMap<AgentId, string>
  readonly gateways: HashMap.HashMap<GatewayId, Gateway>
  readonly tunnels: BucketMap.BucketMap<TunnelId, Tunnel>
  /** The rows of `tunnels` by agent; an agent without tunnels has no entry. */
  readonly tunnelsByAgent: HashMap.HashMap<AgentId, HashMap.HashMap<TunnelId, Tunnel>>
  /** By domain. */
  readonly certificates: BucketMap.BucketMap<string, Certificate>
  /** The scoped rows of `gateways` and all rows of `tunnels`; undefined exactly while no gateway is scoped. */
  readonly scopeIndex: ScopeIndex.ScopeIndex<Gateway, Tunnel> | undefined
  /** Every live API key, including keys whose owner is not in this state. */
  readonly keys: HashMap.HashMap<KeyId, Key>
  /** The rows of `keys` by hash. */
  readonly keysByHash: HashMap.HashMap<string, Key>
  /** Every change after `history.startRevision` up to `revision`, except changes of API keys. */
  readonly history: History.History
}

/** Carries packets over every path of today's Internet: 1,280 bytes and WireGuard's 80 fit into 1,400. */
export const defaultMtu = 1_280

/** A network without rows. */
export const empty = (timeline: Timeline, revision: Revision, mtu = defaultMtu): NetworkState => ({
  timeline,
  revision,
  mtu,
  agents: BucketMap.empty(),
  virtualIps: HashMap.empty(),
  gateways: HashMap.empty(),
  tunnels: BucketMap.empty(),
  tunnelsByAgent: HashMap.empty(),
  certificates: BucketMap.empty(),
  scopeIndex: undefined,
  keys: HashMap.empty(),
  keysByHash: HashMap.empty(),
  history: History.empty(revision)
})

/** Applies a change. Ignores a change that is not newer than the state, because a change may be delivered twice. */
export const apply = (state: NetworkState, change: Change): NetworkState => {
  if (change.revision <= state.revision) return state
  const entry = entryOf(state, change)
  return {
    ...putRow(state, change),
    revision: change.revision,
    history: entry === undefined ? state.history : History.append(state.history, entry)
  }
}

/** The history entry of a change, from the state before it. The change log stores the same facts (`control_record_change`). */
function entryOf(before: NetworkState, change: Change): History.Entry | undefined {
  const { revision } = change
  const plain = { revision, agents: [], own: false, renumbered: false }
  switch (change._tag) {
    case "AgentPut": {
      const old = Option.getOrUndefined(BucketMap.get(before.agents, change.agent.id))
      const renumbered = old === undefined
        ? HashMap.has(before.tunnelsByAgent, change.agent.id)
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
      return { ...plain, entity: "agent", id: change.id, renumbered: HashMap.has(before.tunnelsByAgent, change.id) }
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
  const tunnel = BucketMap.get(state.tunnels, id)
  return Option.isNone(tunnel) ? [] : [tunnel.value.agentId]
}

function domainsOf(state: NetworkState, id: TunnelId): ReadonlyArray<string> {
  const tunnel = BucketMap.get(state.tunnels, id)
  return Option.isNone(tunnel) ? [] : [tunnel.value.domain]
}

/** Applies the row of a change, without revision and history. */
export function putRow(state: NetworkState, change: Change): NetworkState {
  switch (change._tag) {
    case "AgentPut":
      return putAgent(state, change.agent)
    case "AgentRemoved":
      return {
        ...state,
        agents: BucketMap.remove(state.agents, change.id),
        virtualIps: HashMap.remove(state.virtualIps, change.id)
      }
    case "GatewayPut":
      return {
        ...state,
        gateways: HashMap.set(state.gateways, change.gateway.id, change.gateway),
        scopeIndex: ScopeIndex.putGateway(state.scopeIndex, change.gateway, () => BucketMap.values(state.tunnels))
      }
    case "GatewayRemoved":
      return {
        ...state,
        gateways: HashMap.remove(state.gateways, change.id),
        scopeIndex: ScopeIndex.removeGateway(state.scopeIndex, change.id)
      }
    case "TunnelPut":
      return putTunnel(removeTunnel(state, change.tunnel.id), change.tunnel)
    case "TunnelRemoved":
      return removeTunnel(state, change.id)
    case "CertificatePut":
      return {
        ...state,
        certificates: BucketMap.set(state.certificates, change.certificate.domain, change.certificate)
      }
    case "CertificateRemoved":
      return { ...state, certificates: BucketMap.remove(state.certificates, change.domain) }
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
    agents: BucketMap.set(state.agents, agent.id, agent),
    virtualIps: isSame ? state.virtualIps : HashMap.set(state.virtualIps, agent.id, agent.virtualIp)
  }
}

function putTunnel(state: NetworkState, tunnel: Tunnel): NetworkState {
  const siblings = Option.getOrElse(
    HashMap.get(state.tunnelsByAgent, tunnel.agentId),
    () => HashMap.empty<TunnelId, Tunnel>()
  )
  return {
    ...state,
    tunnels: BucketMap.set(state.tunnels, tunnel.id, tunnel),
    tunnelsByAgent: HashMap.set(state.tunnelsByAgent, tunnel.agentId, HashMap.set(siblings, tunnel.id, tunnel)),
    scopeIndex: state.scopeIndex && ScopeIndex.addTunnel(state.scopeIndex, tunnel)
  }
}

function removeTunnel(state: NetworkState, id: TunnelId): NetworkState {
  const tunnel = BucketMap.get(state.tunnels, id)
  if (Option.isNone(tunnel)) return state
  const { agentId } = tunnel.value
  const siblings = Option.map(HashMap.get(state.tunnelsByAgent, agentId), HashMap.remove(id))
  return {
    ...state,
    tunnels: BucketMap.remove(state.tunnels, id),
    scopeIndex: state.scopeIndex && ScopeIndex.removeTunnel(state.scopeIndex, tunnel.value),
    tunnelsByAgent: Option.match(siblings, {
      onNone: () => state.tunnelsByAgent,
      onSome: (rest) =>
        HashMap.isEmpty(rest)
          ? HashMap.remove(state.tunnelsByAgent, agentId)
          : HashMap.set(state.tunnelsByAgent, agentId, rest)
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
