/** Any list of requests to the stores, for those who compare two implementations of them: few ids, so that rows meet. */
import { AgentId, type ClientRef, GatewayId, HostName, KeyId, Revision, SessionId, TunnelId } from "#schema/ids.ts"
import type { GatewayPatch } from "#schema/resources.ts"
import { AgentStore } from "#store/AgentStore.ts"
import { CertificateStore } from "#store/CertificateStore.ts"
import { GatewayStore } from "#store/GatewayStore.ts"
import { ApiKeyStore } from "#store/ApiKeyStore.ts"
import { NodeStore } from "#store/NodeStore.ts"
import { PresenceStore } from "#store/PresenceStore.ts"
import { TunnelStore } from "#store/TunnelStore.ts"
import { Duration, Effect, Redacted } from "effect"
import type { Random } from "./Random.ts"
import type { Tables } from "./databaseTables.ts"

export type Stores =
  | AgentStore
  | GatewayStore
  | TunnelStore
  | CertificateStore
  | ApiKeyStore
  | PresenceStore
  | NodeStore

/** A request; its answer is compared. */
export interface Request {
  readonly name: string
  readonly effect: Effect.Effect<unknown, unknown, Stores>
}

const agents = ["a1", "a2", "a3"].map((id) => AgentId.make(id))
const gateways = ["g1", "g2"].map((id) => GatewayId.make(id))
const tunnels = ["t1", "t2", "t3", "t4"].map((id) => TunnelId.make(id))
const names = ["a.example.com", "b.example.com", "*.example.com", "c.d.example.com"].map((name) => HostName.make(name))
const keys = ["k1", "k2", "k3", "k4"].map((id) => KeyId.make(id))
const sessions = ["s1", "s2", "s3"].map((id) => SessionId.make(id))

export const everyone: ReadonlyArray<ClientRef> = [
  ...agents.map((id) => ({ type: "agent" as const, id })),
  ...gateways.map((id) => ({ type: "gateway" as const, id }))
]

/** Any request that makes sense with these rows there; `fresh` is another number each time. */
export const request = (random: Random, fresh: number, tables: Tables): Request => {
  const make = random.weighted<(random: Random, fresh: number, tables: Tables) => Request>([
    [4, createAgent],
    [2, createGateway],
    [8, createTunnel],
    [6, updateTunnel],
    [3, putTunnel],
    [3, removeTunnel],
    [1, reportTunnels],
    [3, updateClient],
    [2, removeClient],
    [2, keyRequest],
    [5, certificateRequest],
    [6, claim],
    [3, touch],
    [2, release],
    [1, sweep],
    [2, renew],
    [1, collect],
    [3, look]
  ]) ?? look
  return make(random, fresh, tables)
}

const one = <A>(random: Random, items: readonly [A, ...ReadonlyArray<A>] | ReadonlyArray<A>): A => {
  const picked = random.pick(items)
  if (picked === undefined) throw new Error("there is nothing to pick from")
  return picked
}

/** One that no row has: what the database refuses by its own constraints, no store has an answer for. */
const free = <Id extends string>(ids: ReadonlyArray<Id>, table: ReadonlyMap<string, unknown>): Id | undefined =>
  ids.find((id) => !table.has(id))

const keyOf = (fresh: number, { key }: Tables) => ({
  id: free(keys, key) ?? KeyId.make(`key ${fresh}`),
  hash: fresh.toString(16).padStart(64, "0")
})

const identity = <Id>(id: Id, fresh: number, tables: Tables) => ({
  id,
  name: `name ${fresh % 7}`,
  wireguard: { publicKey: `public ${fresh}`, privateKey: Redacted.make(`private ${fresh}`) },
  key: keyOf(fresh, tables)
})

const createAgent = (random: Random, fresh: number, tables: Tables): Request => {
  const id = free(agents, tables.agent)
  if (id === undefined) return updateClient(random)
  return {
    name: "create agent",
    effect: Effect.flatMap(AgentStore, (store) => store.create(identity(id, fresh, tables)))
  }
}

/** Also of agents that are not there. */
const someScope = (random: Random) => ({ agents: [one(random, agents)], domains: [one(random, names)] })

const createGateway = (random: Random, fresh: number, tables: Tables): Request => {
  const id = free(gateways, tables.gateway)
  if (id === undefined) return updateClient(random)
  const publicIp = random.chance(0.5) ? null : `203.0.113.${fresh % 9}`
  const row = {
    ...identity(id, fresh, tables),
    publicIp,
    listenPort: 51_820,
    serves: one(random, [null, someScope(random)])
  }
  return { name: "create gateway", effect: Effect.flatMap(GatewayStore, (store) => store.create(row)) }
}

const tunnelRow = (random: Random, id: TunnelId) => ({
  id,
  agentId: one(random, agents),
  domain: one(random, names),
  target: `localhost:${random.between(1, 3)}`,
  ...(random.chance(0.5) ? { enabled: random.chance(0.5) } : {})
})

const createTunnel = (random: Random, _fresh: number, tables: Tables): Request => {
  const id = free(tunnels, tables.tunnel)
  if (id === undefined) return updateTunnel(random)
  const row = tunnelRow(random, id)
  return { name: "create tunnel", effect: Effect.flatMap(TunnelStore, (store) => store.create(row)) }
}

const putTunnel = (random: Random): Request => {
  const row = tunnelRow(random, one(random, tunnels))
  return { name: "put tunnel", effect: Effect.flatMap(TunnelStore, (store) => store.put(row)) }
}

const updateTunnel = (random: Random): Request => {
  const { agentId, domain, target } = tunnelRow(random, one(random, tunnels))
  const patch = one(random, [{ target }, { agentId }, { domain }, { enabled: random.chance(0.5) }, {}])
  const id = one(random, tunnels)
  return { name: "update tunnel", effect: Effect.flatMap(TunnelStore, (store) => store.update(id, patch)) }
}

const removeTunnel = (random: Random): Request => {
  const id = one(random, tunnels)
  return { name: "remove tunnel", effect: Effect.flatMap(TunnelStore, (store) => store.remove(id)) }
}

const reportTunnels = (random: Random): Request => {
  const reports = [0, 1].map((index) => ({
    agent: one(random, agents),
    domain: names[index] ?? "",
    status: one(random, ["active", "error"]),
    ageMillis: 5
  }))
  return { name: "report tunnels", effect: Effect.flatMap(TunnelStore, (store) => store.recordReports(reports)) }
}

const updateClient = (random: Random): Request => {
  const patch = one(random, [{ name: `name ${random.between(1, 4)}` }, {}])
  if (random.chance(0.5)) {
    const id = one(random, agents)
    return { name: "update agent", effect: Effect.flatMap(AgentStore, (store) => store.update(id, patch)) }
  }
  const more = one<GatewayPatch>(random, [
    { serves: null },
    { serves: {} },
    { serves: someScope(random) },
    { publicIp: null },
    { publicIp: "2001:db8::7" },
    { listenPort: 4_000 },
    {}
  ])
  const id = one(random, gateways)
  return {
    name: "update gateway",
    effect: Effect.flatMap(GatewayStore, (store) => store.update(id, { ...patch, ...more }))
  }
}

const removeClient = (random: Random): Request => {
  if (random.chance(0.5)) {
    const id = one(random, gateways)
    return { name: "remove gateway", effect: Effect.flatMap(GatewayStore, (store) => store.remove(id)) }
  }
  const id = one(random, agents)
  const cascade = random.chance(0.3)
  return { name: "remove agent", effect: Effect.flatMap(AgentStore, (store) => store.remove(id, cascade)) }
}

const keyRequest = (random: Random, fresh: number, tables: Tables): Request => {
  const owner = one(random, everyone)
  const key = keyOf(fresh, tables)
  const gone = one(random, keys)
  const drawn = random.int(3)
  return {
    name: "keys",
    effect: Effect.flatMap(
      ApiKeyStore,
      (store): Effect.Effect<unknown, unknown> =>
        drawn === 0 ? store.create(owner, key) : drawn === 1 ? store.remove(owner, gone) : store.list(owner)
    )
  }
}

const certificateRequest = (random: Random): Request => {
  const number = random.between(1, 4)
  const row = {
    domain: one(random, names),
    certificate: `certificate ${number}`,
    privateKey: Redacted.make(`key ${number}`),
    expiresAt: `2030-0${number}-01T00:00:00.000Z`
  }
  const drawn = random.int(10)
  const gateway = one(random, gateways)
  return {
    name: "certificates",
    effect: Effect.flatMap(
      CertificateStore,
      (store): Effect.Effect<unknown, unknown> =>
        drawn < 5
          ? store.renew(gateway, row)
          : drawn < 7
          ? store.put(row)
          : drawn < 9
          ? store.remove(row.domain)
          : store.find(row.domain)
    )
  }
}

const someTime = "2026-01-01T00:00:00.000Z"

const heldOf = (random: Random) => ({ ...one(random, everyone), session: one(random, sessions) })

const claim = (random: Random, fresh: number): Request => {
  const plain = () => ({
    ...heldOf(random),
    address: "192.0.2.1",
    level: one(random, ["plain", "control.v1"] as const),
    publicIp: null,
    keyId: one(random, keys),
    version: random.chance(0.5) ? undefined : "agent/1"
  })
  // Only one of them changes its row: in which order several do, PostgreSQL does not promise.
  const changing = {
    ...plain(),
    publicIp: random.chance(0.5) ? null : `203.0.113.${random.between(1, 3)}`,
    ...one(random, [
      {},
      { wireguard: { publicKey: `own ${fresh % 5}`, privateKey: null } },
      { wireguard: { publicKey: `made ${fresh}`, privateKey: Redacted.make(`made ${fresh}`) } }
    ])
  }
  const wanted = [changing, ...Array.from({ length: random.between(0, 2) }, plain)]
  const node = one(random, ["node", "node", "other"])
  return { name: "claim", effect: Effect.flatMap(PresenceStore, (store) => store.claim(node, wanted)) }
}

const nackOf = (random: Random) =>
  random.chance(0.8)
    ? undefined
    : { revision: Revision.make(2), code: "c", message: "m", at: someTime }

const touch = (random: Random): Request => {
  const seen = one(random, [everyone.slice(0, 2), everyone.slice(2, 4)]).map((ref) => ({
    ...ref,
    session: one(random, sessions),
    ageMillis: one(random, [0, 100_000]),
    sent: Revision.make(random.between(0, 5)),
    applied: random.chance(0.5) ? undefined : Revision.make(3),
    nack: nackOf(random)
  }))
  return { name: "touch", effect: Effect.flatMap(PresenceStore, (store) => store.touch("node", seen)) }
}

const release = (random: Random): Request => {
  const held = [{ ...heldOf(random), nack: nackOf(random) }]
  return { name: "release", effect: Effect.flatMap(PresenceStore, (store) => store.release(held)) }
}

const sweep = (): Request => ({
  name: "sweep",
  effect: Effect.flatMap(PresenceStore, (store) => store.expireSessions(Duration.seconds(50)))
})

const renew = (random: Random): Request => {
  const node = { id: one(random, ["node", "other"]), name: "n", version: "1", clients: 0, revision: 0 }
  const renewed = Effect.flatMap(NodeStore, (store) => store.renew(node, Duration.hours(1)))
  return { name: "renew", effect: Effect.asVoid(renewed) }
}

const collect = (random: Random): Request => {
  const node = one(random, ["node", "other"])
  return { name: "collect", effect: Effect.flatMap(NodeStore, (store) => store.collectTakeovers(node)) }
}

const look = (random: Random): Request => {
  const [agent, gateway, tunnel] = [one(random, agents), one(random, gateways), one(random, tunnels)]
  return {
    name: "look",
    effect: Effect.all({
      agent: Effect.flatMap(AgentStore, (store) => store.find(agent)),
      gateway: Effect.flatMap(GatewayStore, (store) => store.find(gateway)),
      tunnel: Effect.flatMap(TunnelStore, (store) => store.find(tunnel)),
      agents: Effect.flatMap(AgentStore, (store) => store.list({ after: undefined, limit: 2 })),
      tunnels: Effect.flatMap(TunnelStore, (store) => store.list({ after: undefined, limit: 10 }))
    })
  }
}
