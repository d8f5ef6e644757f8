/**
 * Encodes a client's config as JSON text from cached parts. A row is encoded once when it changes, not once for each client.
 * Rows are joined bucket by bucket, so that a change re-encodes one bucket only. `view.ts` defines the content, and a property
 * test proves that both agree (test/server/network/network.test.ts).
 */
import type { AgentId, ClientRef, GatewayId } from "#schema/ids.ts"
import type { Level } from "#schema/protocol.ts"
import { HashMap, Option } from "effect"
import { agentForGatewaysJson, agentsOfGateway } from "./encodeAgents.ts"
import { encodeGateways } from "./encodeGateways.ts"
import type { Agent, Certificate, Gateway, NetworkState, Tunnel } from "#network/NetworkState.ts"
import { memoize } from "./memoize.ts"
import { rowsInScope, scopedGateway } from "#network/scope.ts"
import * as BucketMap from "#network/BucketMap.ts"
import {
  agentForGatewayV1,
  certificateForGateways,
  gatewaysOfAgent,
  isAtPlainLevel,
  ownAgent,
  ownAgentV1,
  ownGateway,
  ownGatewayV1,
  tunnelForAgent,
  tunnelForAgentV1,
  tunnelForGateways,
  tunnelForGatewaysV1,
  tunnelsOfAgent
} from "./view.ts"

/**
 * The text of a `config` frame: `own`, then the `shared` parts. A part that many clients share is the same object for all of
 * them, so that its bytes are encoded once.
 */
export interface EncodedConfig {
  readonly own: string
  readonly shared: ReadonlyArray<SharedText>
}

/** Text that many configs contain; caches use its identity as the key. */
export interface SharedText {
  readonly text: string
}

/** The `config` for a client at its level; undefined if the client does not exist. */
export const encodeConfig = (
  state: NetworkState,
  client: ClientRef,
  level: Level = "plain"
): EncodedConfig | undefined =>
  client.type === "gateway" ? encodeForGateway(state, client.id, level) : encodeForAgent(state, client.id, level)

/** The parts that unscoped gateways share, each encoded when it is asked for, and cached for `encodeConfig`. */
export function* sharedParts(state: NetworkState): Iterable<SharedText> {
  const { agents, certificates, tunnels, virtualIps } = state
  yield* encodedGroups(agents, agentsText)
  yield* encodedGroups(tunnels, (bucket) => tunnelsText("control.v1", bucket, virtualIps))
  yield* encodedGroups(certificates, certificatesText)
}

/**
 * A lower bound of the size of a `control.v1` config in bytes, computed without encoding it; each row counts less than its shortest
 * encoding. A config of the plain level can be smaller, because it has http tunnels only.
 */
export const minConfigBytes = (state: NetworkState, client: ClientRef): number => {
  if (client.type === "agent") {
    const gateways = state.scopeIndex === undefined
      ? HashMap.size(state.gateways)
      : gatewaysOfAgent(state, client.id).length
    return gateways * 80 + tunnelsOfAgent(state, client.id).length * 60
  }
  const gateway = scopedGateway(state, client.id)
  if (gateway === undefined) return minGatewayConfigBytes(state)
  const { agents, certificates, tunnels } = rowsInScope(state, gateway)
  return agents.length * 90 + tunnels.length * 80 + certificates.length * 80
}

/** The same for any gateway without a scope. */
export const minGatewayConfigBytes = ({ agents, certificates, tunnels }: NetworkState): number =>
  agents.size * 90 + tunnels.size * 80 + certificates.size * 80

function encodeForGateway(state: NetworkState, id: GatewayId, level: Level): EncodedConfig | undefined {
  const gateway = Option.getOrUndefined(HashMap.get(state.gateways, id))
  if (gateway === undefined) return undefined
  if (gateway.serves !== null) return { own: scopedConfig(state, gateway, level), shared: [] }
  const { all, rest } = sharedByGateways(state)
  if (level === "plain") {
    return { own: `{"type":"config","data":{"gateway":${ownGatewayJson(gateway)},"agents":[`, shared: all }
  }
  return {
    own: `${configHeadV1(state)}"gateway":${JSON.stringify(ownGatewayV1(gateway))},"agents":[${
      agentsOfGateway(state.agents, gateway.slot)
    }`,
    shared: rest
  }
}

/** The config of a scoped gateway. The text of each row is cached for all gateways; only the selection of rows is not. */
function scopedConfig(state: NetworkState, gateway: Gateway, level: Level): string {
  const { agents, certificates, tunnels } = rowsInScope(state, gateway)
  const isPlain = level === "plain"
  const head = isPlain
    ? `{"type":"config","data":{"gateway":${ownGatewayJson(gateway)}`
    : `${configHeadV1(state)}"gateway":${JSON.stringify(ownGatewayV1(gateway))}`
  const agentTexts = agents.map((agent) =>
    isPlain ? agentForGatewaysJson(agent) : JSON.stringify(agentForGatewayV1(agent, gateway.slot))
  )
  const tunnelTexts = tunnels.filter((tunnel) => !isPlain || isAtPlainLevel(tunnel)).flatMap((tunnel) =>
    Option.toArray(HashMap.get(state.virtualIps, tunnel.agentId)).map((ip) => tunnelForGatewaysJson(level, tunnel, ip))
  )
  const certificateTexts = certificates.map((row) => JSON.stringify(certificateForGateways(row)))
  return `${head},"agents":[${agentTexts.join()}],"tunnels":[${tunnelTexts.join()}],"certificates":[${certificateTexts.join()}]}}`
}

/** The start of a `control.v1` config, which contains its revision, its timeline and the MTU. */
function configHeadV1({ mtu, revision, timeline }: NetworkState): string {
  return `{"type":"config","revision":${revision},"timeline":${JSON.stringify(timeline)},"data":{"mtu":${mtu},`
}

/** Valid while `tunnels`, `virtualIps` and `certificates` are the same objects. */
const sharedByAgents = new WeakMap<
  NetworkState["agents"],
  Pick<NetworkState, "tunnels" | "virtualIps" | "certificates"> & { readonly shared: SharedByGateways }
>()

interface SharedByGateways {
  /** From the first agent to the end of the message, at the plain level. */
  readonly all: ReadonlyArray<SharedText>
  /** From after the last agent to the end of the message, in `control.v1`. */
  readonly rest: ReadonlyArray<SharedText>
}

function sharedByGateways(state: NetworkState): SharedByGateways {
  const { agents, certificates, tunnels, virtualIps } = state
  const known = sharedByAgents.get(agents)
  if (known?.tunnels === tunnels && known.virtualIps === virtualIps && known.certificates === certificates) {
    return known.shared
  }
  const afterTheAgents = (level: Level) => [
    afterAgents,
    ...joinBuckets(tunnels, (bucket) => tunnelsText(level, bucket, virtualIps)),
    afterTunnels,
    ...joinBuckets(certificates, certificatesText),
    afterCertificates
  ]
  // Most networks have no client of the plain level, so that its tunnels are encoded when one connects.
  let all: ReadonlyArray<SharedText> | undefined
  const shared = {
    get all() {
      return all ??= [...joinBuckets(agents, agentsText), ...afterTheAgents("plain")]
    },
    rest: afterTheAgents("control.v1")
  }
  sharedByAgents.set(agents, { tunnels, virtualIps, certificates, shared })
  return shared
}

const afterAgents: SharedText = { text: "],\"tunnels\":[" }
const afterTunnels: SharedText = { text: "],\"certificates\":[" }
const afterCertificates: SharedText = { text: "]}}" }
const comma: SharedText = { text: "," }

type Bucket<Row> = ReadonlyMap<string, Row>

/** Number of buckets that share one joined text. A change joins one sixteenth of the map's text again. */
const groupSize = 16

/** The map's text by groups of buckets, with a comma between any two groups that are not empty. */
function joinBuckets<Row>(
  map: BucketMap.BucketMap<string, Row>,
  textOf: (bucket: Bucket<Row>) => SharedText
): ReadonlyArray<SharedText> {
  return [...encodedGroups(map, textOf)].flatMap((group, index) => index === 0 ? [group] : [comma, group])
}

/** The groups that are not empty, each encoded when it is asked for. */
function* encodedGroups<Row>(
  map: BucketMap.BucketMap<string, Row>,
  textOf: (bucket: Bucket<Row>) => SharedText
): Iterable<SharedText> {
  for (let from = 0; from < map.buckets.length; from += groupSize) {
    const members: Array<SharedText> = []
    for (const bucket of map.buckets.slice(from, from + groupSize)) {
      const part = bucket.size === 0 ? undefined : textOf(bucket)
      if (part !== undefined && part.text !== "") members.push(part)
    }
    if (members.length > 0) yield groupText(members)
  }
}

const groups = new WeakMap<SharedText, { readonly members: ReadonlyArray<SharedText>; readonly group: SharedText }>()

/** Returns the same object for the same members. */
function groupText(members: ReadonlyArray<SharedText>): SharedText {
  const first = members[0] ?? comma
  const known = groups.get(first)
  if (known?.members.length === members.length && members.every((member, index) => member === known.members[index])) {
    return known.group
  }
  const group = { text: members.map(({ text }) => text).join() }
  groups.set(first, { members, group })
  return group
}

const agentsText = memoize((bucket: Bucket<Agent>): SharedText => ({
  text: Array.from(bucket.values(), (row) => agentForGatewaysJson(row)).join()
}))

const certificatesText = memoize((bucket: Bucket<Certificate>): SharedText => ({
  text: Array.from(bucket.values(), (row) => JSON.stringify(certificateForGateways(row))).join()
}))

interface KnownTunnels {
  readonly virtualIps: NetworkState["virtualIps"]
  readonly part: SharedText
}

const tunnelTexts: { readonly [level in Level]: WeakMap<Bucket<Tunnel>, KnownTunnels> } = {
  plain: new WeakMap(),
  "control.v1": new WeakMap()
}

/** A tunnel whose agent does not exist is in no gateway's view. */
function tunnelsText(level: Level, bucket: Bucket<Tunnel>, virtualIps: NetworkState["virtualIps"]): SharedText {
  const known = tunnelTexts[level].get(bucket)
  if (known?.virtualIps === virtualIps) return known.part
  const texts: Array<string> = []
  for (const tunnel of bucket.values()) {
    const virtualIp = HashMap.get(virtualIps, tunnel.agentId)
    if (Option.isSome(virtualIp) && (level !== "plain" || isAtPlainLevel(tunnel))) {
      texts.push(tunnelForGatewaysJson(level, tunnel, virtualIp.value))
    }
  }
  const text = texts.join()
  // If only addresses of other buckets changed, the same text stays the same object.
  const part = known?.part.text === text ? known.part : { text }
  tunnelTexts[level].set(bucket, { virtualIps, part })
  return part
}

function encodeForAgent(state: NetworkState, id: AgentId, level: Level): EncodedConfig | undefined {
  const agent = Option.getOrUndefined(BucketMap.get(state.agents, id))
  if (agent === undefined) return undefined
  const gateways = encodeGateways(state, agent, level)
  const head = level === "plain" ? "{\"type\":\"config\",\"data\":{" : configHeadV1(state)
  const own = level === "plain" ? ownAgentJson(agent) : JSON.stringify(ownAgentV1(agent))
  const rows = tunnelsOfAgent(state, id)
  const tunnels = level === "plain"
    ? rows.filter(isAtPlainLevel).map(tunnelForAgentJson)
    : rows.map(tunnelForAgentJsonV1)
  return { own: `${head}"agent":${own},"gateways":[${gateways}],"tunnels":[${tunnels.join()}]}}`, shared: [] }
}

const ownAgentJson = memoize((agent: Agent) => JSON.stringify(ownAgent(agent)))
const ownGatewayJson = memoize((gateway: Gateway) => JSON.stringify(ownGateway(gateway)))
const tunnelForAgentJson = memoize((tunnel: Tunnel) => JSON.stringify(tunnelForAgent(tunnel)))
const tunnelForAgentJsonV1 = memoize((tunnel: Tunnel) => JSON.stringify(tunnelForAgentV1(tunnel)))

interface KnownTunnel {
  readonly agentVirtualIp: string
  readonly json: string
}

const tunnelForGatewaysMemo: { readonly [level in Level]: WeakMap<Tunnel, KnownTunnel> } = {
  plain: new WeakMap(),
  "control.v1": new WeakMap()
}

const renderTunnel = { plain: tunnelForGateways, "control.v1": tunnelForGatewaysV1 }

function tunnelForGatewaysJson(level: Level, tunnel: Tunnel, agentVirtualIp: string): string {
  const known = tunnelForGatewaysMemo[level].get(tunnel)
  if (known?.agentVirtualIp === agentVirtualIp) return known.json
  const json = JSON.stringify(renderTunnel[level](tunnel, agentVirtualIp))
  tunnelForGatewaysMemo[level].set(tunnel, { agentVirtualIp, json })
  return json
}
