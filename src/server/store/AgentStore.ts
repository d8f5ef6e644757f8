/** The table of agents. */
import { agentAddress } from "#network/addresses.ts"
import { Agent, type AgentPatch, type Page, type PageRequest } from "#schema/resources.ts"
import type { AgentId, KeyId } from "#schema/ids.ts"
import { Settings } from "#server/Settings.ts"
import { Context, Effect, Layer, Option, Redacted, Schema } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { lowestFree } from "./lowestFree.ts"
import { keysetPages } from "./keysetPages.ts"
import { presenceColumns, timeColumns } from "./presenceColumns.ts"
import { Secrets } from "./secrets/Secrets.ts"
import { atEdge, type StoreUnavailable, violated, write, type Written } from "./sql.ts"
import { readerOf, type UnreadableRow } from "./UnreadableRow.ts"

/** Every /24 of the pool (`CONTROL_NETWORK_POOL`) belongs to an agent. */
export class NetworkPoolExhausted extends Schema.TaggedError<NetworkPoolExhausted>()("NetworkPoolExhausted", {
  pool: Schema.String
}) {
  override get message(): string {
    return `every subnet of ${this.pool} belongs to an agent`
  }
}

/** The agent cannot go while tunnels lead to it. */
export class AgentHasTunnels extends Schema.TaggedError<AgentHasTunnels>()("AgentHasTunnels", { id: Schema.String }) {
  override get message(): string {
    return "the agent has tunnels: delete them first, or with it"
  }
}

/** What an agent or gateway begins with. */
export interface Identity<Id> {
  readonly id: Id
  readonly name: string
  readonly wireguard: { readonly publicKey: string; readonly privateKey: Redacted.Redacted }
  readonly key: { readonly id: KeyId; readonly hash: string }
}

export class AgentStore extends Context.Service<AgentStore, {
  /** Gives it the lowest free subnet. */
  create(agent: Identity<AgentId>): Effect.Effect<Written<Agent>, NetworkPoolExhausted | StoreUnavailable>
  find(id: AgentId): Effect.Effect<Option.Option<Agent>, UnreadableRow | StoreUnavailable>
  list(request: PageRequest): Effect.Effect<Page<Agent>, StoreUnavailable>
  /** A row that cannot be read even so stays as it was. */
  update(
    id: AgentId,
    patch: AgentPatch
  ): Effect.Effect<Written<Option.Option<Agent>>, UnreadableRow | StoreUnavailable>
  /** Its keys go with it, and on `cascade` its tunnels; tells whether it was there. */
  remove(id: AgentId, cascade: boolean): Effect.Effect<Written<boolean>, AgentHasTunnels | StoreUnavailable>
}>()("control/store/AgentStore") {
  static readonly layer = Layer.effect(
    AgentStore,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const { writingCipher } = yield* Secrets
      const { networkPool } = yield* Settings
      const columns = sql.literal(agentColumns)

      const insert = Effect.fnUntraced(function*({ id, key, name, wireguard }: Identity<AgentId>) {
        const privateKey = (yield* writingCipher(sql)).encrypt(Redacted.value(wireguard.privateKey), {
          table: "agents",
          column: "wireguard_private_key",
          row: id
        })
        // A subnet may be taken although its index is free: the pool has changed since it was given out.
        for (let from = 0;;) {
          const index = yield* lowestFree(sql, "agents", from)
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

      const create = Effect.fn("AgentStore.create")((agent: Identity<AgentId>) => write(sql)(insert(agent)))

      const find = Effect.fn("AgentStore.find")(function*(id: AgentId) {
        return yield* agents.first(yield* atEdge(sql`select ${columns} from agents where id = ${id}`))
      })

      const list = keysetPages(
        sql,
        { columns: agentColumns, from: "agents", when: "created_at", key: "id" },
        agents.read
      )

      const update = Effect.fn("AgentStore.update")(function*(id: AgentId, { name }: AgentPatch) {
        const change = sql`
          update agents set name = coalesce(${name ?? null}::text, name) where id = ${id} returning ${columns}`
        // No operator can say anything in the place of what a client has said.
        const forgetNack = sql`update agents set nack = null where id = ${id} returning ${columns}`
        return yield* write(sql)(agents.firstOf(change, forgetNack))
      })

      /** The lock keeps new tunnels away until the agent is gone. */
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
        const refused = (error: SqlError.SqlError) =>
          Effect.fail(violated(error) === "tunnels_agent_exists" ? new AgentHasTunnels({ id }) : error)
        return yield* write(sql)(Effect.catchTag(removed, "SqlError", refused))
      })

      return AgentStore.of({ create, find, list, update, remove })
    })
  )
}

const agentColumns = `id, name, virtual_ip as "virtualIp", subnet, wireguard_public_key as "wireguardPublicKey",
  ${presenceColumns}, ${timeColumns}`

const agents = readerOf(Agent, ({ id }) => ({ entity: "agent", id }))
