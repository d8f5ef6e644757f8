/** Random requests for agents, gateways, tunnels, keys and certificates. */
import { KeyId, type TunnelId } from "#schema/ids.ts"
import type { GatewayPatch } from "#schema/resources.ts"
import { AgentStore } from "#store/AgentStore.ts"
import { CertificateStore, type RenewalFacts, type RenewalVerdict } from "#store/CertificateStore.ts"
import { GatewayStore } from "#store/GatewayStore.ts"
import { ApiKeyStore } from "#store/ApiKeyStore.ts"
import { ReportStore } from "#store/ReportStore.ts"
import { TunnelStore } from "#store/TunnelStore.ts"
import { actingAs } from "#store/AuditActor.ts"
import { Effect, Redacted } from "effect"
import type { Random } from "./Random.ts"
import type { Tables } from "./databaseTables.ts"
import {
  agents,
  allClients,
  domains,
  findUnused,
  gateways,
  keys,
  pick,
  sessions,
  type StoreRequest,
  tunnels
} from "./StoreRequest.ts"

const keyOf = (fresh: number, { key }: Tables) => ({
  id: findUnused(keys, key) ?? KeyId.make(`key ${fresh}`),
  hash: fresh.toString(16).padStart(64, "0")
})

const identity = <Id>(id: Id, fresh: number, tables: Tables) => ({
  id,
  name: `name ${fresh % 7}`,
  wireguard: { publicKey: `public ${fresh}`, privateKey: Redacted.make(`private ${fresh}`) },
  key: keyOf(fresh, tables)
})

export const createAgent = (random: Random, fresh: number, tables: Tables): StoreRequest => {
  const id = findUnused(agents, tables.agent)
  if (id === undefined) return updateClient(random)
  return {
    name: "create agent",
    effect: Effect.flatMap(AgentStore, (store) => store.create(identity(id, fresh, tables)))
  }
}

/** A scope that may name an agent without a row. */
const someScope = (random: Random) => ({ agents: [pick(random, agents)], domains: [pick(random, domains)] })

export const createGateway = (random: Random, fresh: number, tables: Tables): StoreRequest => {
  const id = findUnused(gateways, tables.gateway)
  if (id === undefined) return updateClient(random)
  const publicIp = random.chance(0.5) ? null : `203.0.113.${fresh % 9}`
  const row = {
    ...identity(id, fresh, tables),
    publicIp,
    listenPort: 51_820,
    serves: pick(random, [null, someScope(random)])
  }
  return { name: "create gateway", effect: Effect.flatMap(GatewayStore, (store) => store.create(row)) }
}

const tunnelRow = (random: Random, id: TunnelId) => {
  const agentId = pick(random, agents)
  const domain = pick(random, domains)
  const port = random.between(1, 3)
  const protocol = port === 3 ? "tls" as const : "http" as const
  const enabled = random.chance(0.5) ? { enabled: random.chance(0.5) } : {}
  return { id, agentId, domain, target: `localhost:${port}`, protocol, ...enabled }
}

export const createTunnel = (random: Random, _fresh: number, tables: Tables): StoreRequest => {
  const id = findUnused(tunnels, tables.tunnel)
  if (id === undefined) return updateTunnel(random)
  const row = tunnelRow(random, id)
  return { name: "create tunnel", effect: Effect.flatMap(TunnelStore, (store) => store.create(row)) }
}

export const putTunnel = (random: Random): StoreRequest => {
  const row = tunnelRow(random, pick(random, tunnels))
  return { name: "put tunnel", effect: Effect.flatMap(TunnelStore, (store) => store.put(row)) }
}

export const updateTunnel = (random: Random): StoreRequest => {
  const { agentId, domain, protocol, target } = tunnelRow(random, pick(random, tunnels))
  const patch = pick(random, [{ target, protocol }, { agentId }, { domain }, { enabled: random.chance(0.5) }, {}])
  const id = pick(random, tunnels)
  return { name: "update tunnel", effect: Effect.flatMap(TunnelStore, (store) => store.update(id, patch)) }
}

export const removeTunnel = (random: Random): StoreRequest => {
  const id = pick(random, tunnels)
  return { name: "remove tunnel", effect: Effect.flatMap(TunnelStore, (store) => store.remove(id)) }
}

export const reportTunnels = (random: Random): StoreRequest => {
  const reports = [0, 1].map((index) => ({
    client: { type: "agent" as const, id: pick(random, agents) },
    id: null,
    domain: domains[index] ?? "",
    detail: null,
    revision: null,
    session: pick(random, sessions),
    status: pick(random, ["active", "error"]),
    ageMillis: 5
  }))
  return { name: "report tunnels", effect: Effect.flatMap(ReportStore, (store) => store.recordAgentReports(reports)) }
}

export const updateClient = (random: Random): StoreRequest => {
  const patch = pick(random, [{ name: `name ${random.between(1, 4)}` }, {}])
  if (random.chance(0.5)) {
    const id = pick(random, agents)
    return { name: "update agent", effect: Effect.flatMap(AgentStore, (store) => store.update(id, patch)) }
  }
  const gatewayPatch = pick<GatewayPatch>(random, [
    { serves: null },
    { serves: {} },
    { serves: someScope(random) },
    { publicIp: null },
    { publicIp: "2001:db8::7" },
    { listenPort: 4_000 },
    {}
  ])
  const id = pick(random, gateways)
  return {
    name: "update gateway",
    effect: Effect.flatMap(GatewayStore, (store) => store.update(id, { ...patch, ...gatewayPatch }))
  }
}

export const removeClient = (random: Random): StoreRequest => {
  if (random.chance(0.5)) {
    const id = pick(random, gateways)
    return { name: "remove gateway", effect: Effect.flatMap(GatewayStore, (store) => store.remove(id)) }
  }
  const id = pick(random, agents)
  const cascade = random.chance(0.3)
  return { name: "remove agent", effect: Effect.flatMap(AgentStore, (store) => store.remove(id, cascade)) }
}

export const keyRequest = (random: Random, fresh: number, tables: Tables): StoreRequest => {
  const owner = pick(random, allClients)
  const key = keyOf(fresh, tables)
  const revoked = pick(random, keys)
  const drawn = random.int(3)
  return {
    name: "keys",
    effect: Effect.flatMap(
      ApiKeyStore,
      (store): Effect.Effect<unknown, unknown> =>
        drawn === 0 ? store.create(owner, key) : drawn === 1 ? store.remove(owner, revoked) : store.list(owner)
    )
  }
}

export const certificateRequest = (random: Random): StoreRequest => {
  const number = random.between(1, 4)
  const row = {
    domain: pick(random, domains),
    certificate: `certificate ${number}`,
    privateKey: Redacted.make(`key ${number}`),
    expiresAt: `2030-0${number}-01T00:00:00.000Z`,
    validFrom: "2029-12-01T00:00:00.000Z"
  }
  const decide = ({ isLimited, stored }: RenewalFacts): RenewalVerdict =>
    stored === undefined || stored.source === "self" ? "stored" : isLimited ? "kept" : "outlived"
  const drawn = random.int(10)
  const gateway = pick(random, gateways)
  return {
    name: "certificates",
    effect: Effect.flatMap(
      CertificateStore,
      (store): Effect.Effect<unknown, unknown> =>
        drawn < 5
          ? actingAs(`gateway:${gateway}`, null)(store.renew(gateway, row, decide))
          : drawn < 7
          ? store.put(row)
          : drawn < 9
          ? store.remove(row.domain)
          : store.find(row.domain)
    )
  }
}
