/** Agent, gateway and key stores over the simulated database. */
import { agentAddress } from "#network/addresses.ts"
import { AgentId, type ClientRef, formatClientRef, GatewayId, HostName, KeyId } from "#schema/ids.ts"
import type { Agent, Gateway, ScopeInput } from "#schema/resources.ts"
import { AgentHasTunnels, AgentStore, NetworkPoolExhausted, type NewClientRow } from "#store/AgentStore.ts"
import { NameTaken } from "#store/clientNames.ts"
import { GatewayStore, normalizeScope, NoSuchAgentInScope } from "#store/GatewayStore.ts"
import { ApiKeyStore, OwnerNotFound, TooManyKeys } from "#store/ApiKeyStore.ts"
import { Effect, Layer, Option, Redacted } from "effect"
import type { Database } from "./SimulatedDatabase.ts"
import type { DatabaseLink } from "./DatabaseLink.ts"
import { clientFields, pageOf, toTimestamp, withRevision } from "./resourceFields.ts"
import type { AgentRow, GatewayRow } from "./databaseTables.ts"
import { ConstraintViolated, type Transaction } from "./Transaction.ts"

/** As in `Settings`. */
const pool = "10.64.0.0/10"

export const agentStore = (link: DatabaseLink) => {
  const { database } = link
  const toResource = (row: AgentRow | undefined) =>
    Option.map(Option.fromUndefinedOr(row), (row) => agentResource(database, row))

  const create = ({ id, key, name, wireguard }: NewClientRow<AgentId>) =>
    database.transact((tx): Effect.Effect<AgentId, NameTaken | NetworkPoolExhausted> => {
      const indexes = new Set([...tx.tables.agent.values()].map(({ subnetIndex }) => subnetIndex))
      const subnets = new Set([...tx.tables.agent.values()].map(({ subnet }) => subnet))
      for (let index = 0;; index++) {
        if (indexes.has(index)) continue
        const address = agentAddress(pool, index)
        if (address === undefined) return Effect.fail(new NetworkPoolExhausted({ pool }))
        if (subnets.has(address.subnet)) continue
        const taken = nameTaken(database, "agent", id, name)
        if (taken !== undefined) return Effect.fail(taken)
        const privateKey = Redacted.value(wireguard.privateKey)
        tx.put("agent", { id, name, ...address, subnetIndex: index, publicKey: wireguard.publicKey, privateKey })
        tx.put("key", { id: key.id, owner: { type: "agent", id }, hash: key.hash })
        return Effect.succeed(id)
      }
    })

  const remove = (id: AgentId, cascade: boolean) => {
    try {
      const removed = database.transact((tx) => {
        if (cascade) removeTunnels(tx, id)
        return tx.remove("agent", id)
      })
      return Effect.succeed(withRevision(database, removed))
    } catch (error) {
      if (error instanceof ConstraintViolated) return Effect.fail(new AgentHasTunnels({ id }))
      throw error
    }
  }

  return Layer.succeed(
    AgentStore,
    AgentStore.of({
      create: (agent) =>
        link.request(
          "create agent",
          () =>
            Effect.map(
              create(agent),
              (id) => withRevision(database, Option.getOrThrow(toResource(database.tables.agent.get(id))))
            )
        ),
      find: (id) => link.request("find agent", () => Effect.succeed(toResource(database.tables.agent.get(id)))),
      list: (request) =>
        link.request(
          "list agents",
          () =>
            Effect.succeed(
              pageOf(database, "agent", request, (id) => Option.toArray(toResource(database.tables.agent.get(id))))
            )
        ),
      update: (id, patch) =>
        link.request("update agent", () => {
          const taken = database.tables.agent.has(id) ? nameTaken(database, "agent", id, patch.name) : undefined
          if (taken !== undefined) return Effect.fail(taken)
          database.transact((tx) => {
            const row = tx.tables.agent.get(id)
            if (row !== undefined) tx.put("agent", { ...row, name: patch.name ?? row.name })
          })
          return Effect.succeed(withRevision(database, toResource(database.tables.agent.get(id))))
        }),
      remove: (id, cascade) => link.request("remove agent", () => remove(id, cascade))
    })
  )
}

export const gatewayStore = (link: DatabaseLink) => {
  const { database } = link
  const toResource = (id: string) =>
    Option.map(Option.fromUndefinedOr(database.tables.gateway.get(id)), (row) => gatewayResource(database, row))

  return Layer.succeed(
    GatewayStore,
    GatewayStore.of({
      create: ({ id, key, listenPort, name, publicIp, serves, wireguard }) =>
        link.request("create gateway", () => {
          const rejection = missingIn(database, id, serves) ?? nameTaken(database, "gateway", id, name)
          if (rejection !== undefined) return Effect.fail(rejection)
          database.transact((tx) => {
            const taken = new Set([...tx.tables.gateway.values()].map(({ slot }) => slot))
            let slot = 0
            while (taken.has(slot)) slot += 1
            const privateKey = Redacted.value(wireguard.privateKey)
            const scope = serves === null ? null : normalizeScope(serves)
            tx.put("gateway", {
              id,
              name,
              publicIp,
              listenPort,
              slot,
              serves: scope,
              publicKey: wireguard.publicKey,
              privateKey
            })
            tx.put("key", { id: key.id, owner: { type: "gateway", id }, hash: key.hash })
          })
          return Effect.succeed(withRevision(database, Option.getOrThrow(toResource(id))))
        }),
      find: (id) => link.request("find gateway", () => Effect.succeed(toResource(id))),
      list: (request) =>
        link.request(
          "list gateways",
          () => Effect.succeed(pageOf(database, "gateway", request, (id) => Option.toArray(toResource(id))))
        ),
      update: (id, patch) =>
        link.request("update gateway", () => {
          const rejection = missingIn(database, id, patch.serves) ??
            (database.tables.gateway.has(id) ? nameTaken(database, "gateway", id, patch.name) : undefined)
          if (rejection !== undefined) return Effect.fail(rejection)
          database.transact((tx) => {
            const row = tx.tables.gateway.get(id)
            if (row === undefined) return
            tx.put("gateway", {
              ...row,
              name: patch.name ?? row.name,
              publicIp: patch.publicIp === undefined ? row.publicIp : patch.publicIp,
              serves: patch.serves === undefined
                ? row.serves
                : patch.serves === null
                ? null
                : normalizeScope(patch.serves),
              listenPort: patch.listenPort ?? row.listenPort
            })
          })
          return Effect.succeed(withRevision(database, toResource(id)))
        }),
      remove: (id) =>
        link.request("remove gateway", () => {
          const removed = database.transact((tx) => tx.remove("gateway", id))
          return Effect.succeed(withRevision(database, removed))
        })
    })
  )
}

/** The error if another client has the name. */
function nameTaken({ tables }: Database, type: "agent" | "gateway", id: string, name: string | undefined) {
  const holder = [...tables[type].values()].find((row) => row.name.toLowerCase() === name?.toLowerCase())
  return name === undefined || holder === undefined || holder.id === id
    ? undefined
    : new NameTaken({ type, name, holder: { id: holder.id, name: holder.name } })
}

function missingIn({ tables }: Database, id: string, scope: ScopeInput | null | undefined) {
  const stored = tables.gateway.get(id)?.serves?.agents ?? []
  const agents = scope?.agents ?? []
  const index = agents.findIndex((agent) => !tables.agent.has(agent) && !stored.includes(agent))
  const agent = agents[index]
  return agent === undefined ? undefined : new NoSuchAgentInScope({ id: agent, index })
}

const maxKeys = 2

export const keyStore = (link: DatabaseLink) => {
  const { database } = link
  const withOwner = <A, E>(owner: ClientRef, work: () => Effect.Effect<A, E>): Effect.Effect<A, E | OwnerNotFound> =>
    database.exists(owner) ? work() : Effect.fail(new OwnerNotFound({ type: owner.type, id: owner.id }))
  const createdAt = (id: string) => database.times.get(`key:${id}`)?.created ?? 0

  return Layer.succeed(
    ApiKeyStore,
    ApiKeyStore.of({
      list: (owner) =>
        link.request("list keys", () =>
          withOwner(owner, () => {
            const keys = [...database.tables.key.values()].filter((key) =>
              formatClientRef(key.owner) === formatClientRef(owner)
            )
              .toSorted((a, b) => createdAt(a.id) - createdAt(b.id) || (a.id < b.id ? -1 : 1))
            return Effect.succeed(keys.map(({ id }) => ({
              id: KeyId.make(id),
              createdAt: toTimestamp(createdAt(id)),
              lastUsedAt: database.keyUsed.has(id) ? toTimestamp(database.keyUsed.get(id) ?? 0) : null
            })))
          })),
      create: (owner, { hash, id }) =>
        link.request("create key", () =>
          withOwner(owner, () => {
            const isFull = database.transact((tx) => {
              const isFull = tx.keysOf(owner).length >= maxKeys
              if (!isFull) tx.put("key", { id, owner, hash })
              return isFull
            })
            return isFull ? Effect.fail(new TooManyKeys()) : Effect.succeed(withRevision(database, undefined))
          })),
      remove: (owner, id) =>
        link.request("remove key", () =>
          withOwner(owner, () => {
            const removed = database.transact((tx) =>
              tx.keysOf(owner).some((key) => key.id === id) && tx.remove("key", id)
            )
            return Effect.succeed(withRevision(database, removed))
          }))
    })
  )
}

function removeTunnels(tx: Transaction, agent: string): void {
  for (const { agentId, id } of tx.tables.tunnel.values()) if (agentId === agent) tx.remove("tunnel", id)
}

function agentResource(database: Database, { id, name, publicKey, subnet, virtualIp }: AgentRow): Agent {
  const ref = { type: "agent" as const, id: AgentId.make(id) }
  return { id: ref.id, name, virtualIp, subnet, wireguardPublicKey: publicKey, ...clientFields(database, ref) }
}

function gatewayResource(
  database: Database,
  { id, listenPort, name, publicIp, publicKey, serves: scope }: GatewayRow
): Gateway {
  const ref = { type: "gateway" as const, id: GatewayId.make(id) }
  const serves = scope === null ? null : {
    agents: scope.agents.map((agent) => AgentId.make(agent)),
    domains: scope.domains.map((domain) => HostName.make(domain))
  }
  return {
    id: ref.id,
    name,
    publicIp,
    listenPort,
    serves,
    wireguardPublicKey: publicKey,
    ...clientFields(database, ref)
  }
}
