/** Table of agents. */
import { agentAddress } from "#network/addresses.ts"
import type { Page, PageRequest } from "#schema/pagination.ts"
import { Agent, type AgentPatch } from "#schema/resources.ts"
import type { AgentId, KeyId } from "#schema/ids.ts"
import { Settings } from "#server/Settings.ts"
import { Context, Effect, Layer, Option, Redacted, Schema } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { failOnTakenName, type NameTaken, withHolder } from "./clientNames.ts"
import { lowestFreeNumber } from "./lowestFreeNumber.ts"
import { keysetPages } from "./keysetPages.ts"
import { clientConditions, type ClientFilter } from "./listFilters.ts"
import { presenceColumns, timestampColumns } from "./presenceColumns.ts"
import { Secrets } from "./secrets/Secrets.ts"
import {
  revisionedTransaction,
  type StoreUnavailable,
  violatedConstraint,
  type WithRevision,
  withStoreErrors
} from "./sql.ts"
import { makeRowReader, type UnreadableRow } from "./UnreadableRow.ts"

/** Every /24 subnet of the pool (`CONTROL_NETWORK_POOL`) belongs to an agent. */
export class NetworkPoolExhausted extends Schema.TaggedError<NetworkPoolExhausted>()("NetworkPoolExhausted", {
  pool: Schema.String
}) {
  override get message(): string {
    return `no free subnet in CONTROL_NETWORK_POOL ${this.pool}; delete an agent, or configure a larger pool`
  }
}

/** The agent still has tunnels, so it cannot be deleted without them. */
export class AgentHasTunnels extends Schema.TaggedError<AgentHasTunnels>()("AgentHasTunnels", { id: Schema.String }) {
  override get message(): string {
    return "the agent has tunnels; delete the tunnels first, or delete the agent with cascade=true"
  }
}

/** The columns of a new agent or gateway, and its first API key. */
export interface NewClientRow<Id> {
  readonly id: Id
  readonly name: string
  readonly wireguard: { readonly publicKey: string; readonly privateKey: Redacted.Redacted }
  readonly key: { readonly id: KeyId; readonly hash: string }
}

/** Reads and writes agents. Each write returns the revision that includes it. */
export class AgentStore extends Context.Service<AgentStore, {
  /** Inserts the agent with the lowest free subnet of the pool. */
  create(
    agent: NewClientRow<AgentId>
  ): Effect.Effect<WithRevision<Agent>, NameTaken | NetworkPoolExhausted | StoreUnavailable>
  find(id: AgentId): Effect.Effect<Option.Option<Agent>, UnreadableRow | StoreUnavailable>
  list(request: PageRequest, filter?: ClientFilter): Effect.Effect<Page<Agent>, StoreUnavailable>
  /** Changes the agent; none if no agent has this id. An unreadable row stays unchanged. */
  update(
    id: AgentId,
    patch: AgentPatch
  ): Effect.Effect<WithRevision<Option.Option<Agent>>, NameTaken | UnreadableRow | StoreUnavailable>
  /** Deletes the agent with its API keys, and with its tunnels on `cascade`; false if no agent has this id. */
  remove(id: AgentId, cascade: boolean): Effect.Effect<WithRevision<boolean>, AgentHasTunnels | StoreUnavailable>
}>()("control/store/AgentStore") {
  static readonly layer = Layer.effect(
    AgentStore,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const { networkPool } = yield* Settings
      const insert = makeInsert(sql, yield* Secrets, networkPool)
      const columns = sql.literal(agentColumns)

      const create = Effect.fn("AgentStore.create")((agent: NewClientRow<AgentId>) =>
        insert(agent).pipe(failOnTakenName("agent", agent.name), revisionedTransaction(sql), withHolder(sql))
      )

      const find = Effect.fn("AgentStore.find")(function*(id: AgentId) {
        return yield* agents.first(yield* withStoreErrors(sql`select ${columns} from agents where id = ${id}`))
      })

      const list = keysetPages(
        sql,
        { columns: agentColumns, from: "agents", orderBy: "created_at", key: "id" },
        agents.read,
        clientConditions(sql, "virtual_ip")
      )

      const update = Effect.fn("AgentStore.update")(function*(id: AgentId, { name }: AgentPatch) {
        const change = sql`
          update agents set name = coalesce(${name ?? null}::text, name) where id = ${id} returning ${columns}`
        // Clients report `nack`. No update by an operator replaces an unreadable one, so the repair clears it.
        const clearNack = sql`update agents set nack = null where id = ${id} returning ${columns}`
        return yield* agents.firstOrRepaired(change, clearNack).pipe(
          failOnTakenName("agent", name),
          revisionedTransaction(sql),
          withHolder(sql)
        )
      })

      /** Locks the agent's row until the commit, so that no new tunnel is inserted before the agent is deleted. */
      const deleteTunnels = (id: AgentId) =>
        Effect.andThen(
          sql`select from agents where id = ${id} for update`,
          sql`delete from tunnels where agent_id = ${id}`
        )

      const remove = Effect.fn("AgentStore.remove")(function*(id: AgentId, cascade: boolean) {
        const removed = Effect.gen(function*() {
          if (cascade) yield* deleteTunnels(id)
          const rows = yield* sql`delete from agents where id = ${id} returning id`
          return rows.length > 0
        })
        const toAgentHasTunnels = (error: SqlError.SqlError) =>
          Effect.fail(violatedConstraint(error) === "tunnels_agent_exists" ? new AgentHasTunnels({ id }) : error)
        return yield* revisionedTransaction(sql)(Effect.catchTag(removed, "SqlError", toAgentHasTunnels))
      })

      return AgentStore.of({ create, find, list, update, remove })
    })
  )
}

/** Inserts an agent with the lowest subnet index whose subnet is free. */
const makeInsert = (sql: SqlClient.SqlClient, { writingCipher }: Secrets["Service"], networkPool: string) => {
  const columns = sql.literal(agentColumns)
  return Effect.fnUntraced(function*({ id, key, name, wireguard }: NewClientRow<AgentId>) {
    const privateKey = (yield* writingCipher(sql)).encrypt(Redacted.value(wireguard.privateKey), {
      table: "agents",
      column: "wireguard_private_key",
      row: id
    })
    // After a change of the pool, a free index can map to a subnet that an older agent has.
    for (let from = 0;;) {
      const index = yield* lowestFreeNumber(sql, "agents", from)
      const address = agentAddress(networkPool, index)
      if (address === undefined) return yield* new NetworkPoolExhausted({ pool: networkPool })
      const rows = yield* sql`
        insert into agents (id, name, virtual_ip, subnet, subnet_index, wireguard_public_key, wireguard_private_key)
        values (${id}, ${name}, ${address.virtualIp}, ${address.subnet}, ${index}, ${wireguard.publicKey}, ${privateKey})
        on conflict (subnet) do nothing returning ${columns}`
      const agent = Option.getOrUndefined(yield* Effect.orDie(agents.first(rows)))
      if (agent === undefined) {
        from = index + 1
        continue
      }
      yield* sql`insert into api_keys (id, agent_id, hash) values (${key.id}, ${id}, ${key.hash})`
      return agent
    }
  })
}

const agentColumns = `id, name, virtual_ip as "virtualIp", subnet, wireguard_public_key as "wireguardPublicKey",
  ${presenceColumns}, ${timestampColumns}`

const agents = makeRowReader(Agent, ({ id }) => ({ entity: "agent", id }))
