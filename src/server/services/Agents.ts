/** Creates, reads, updates and deletes agents. Only rows are written; clients learn of them by the feed. */
import { hashApiKey, mintApiKey } from "#crypto/apiKeys.ts"
import { newId } from "#crypto/identifiers.ts"
import { generateWireguardKeyPair } from "#crypto/wireguardKeys.ts"
import { Network } from "#feed/Network.ts"
import { AgentId, type Revision } from "#schema/ids.ts"
import type { Page, PageRequest } from "#schema/pagination.ts"
import type { Agent, AgentPatch, NewAgent } from "#schema/resources.ts"
import { type AgentHasTunnels, AgentStore, type NetworkPoolExhausted } from "#store/AgentStore.ts"
import type { NameTaken } from "#store/clientNames.ts"
import type { ClientFilter } from "#store/listFilters.ts"
import { missing } from "#store/ReferenceStore.ts"
import type { StoreUnavailable, WithRevision } from "#store/sql.ts"
import type { UnreadableRow } from "#store/UnreadableRow.ts"
import { Context, Effect, Layer, Option, Redacted, Schema } from "effect"

export type { NameTaken } from "#store/clientNames.ts"
export { AgentHasTunnels, NetworkPoolExhausted } from "#store/AgentStore.ts"

export class AgentNotFound extends Schema.TaggedError<AgentNotFound>()("AgentNotFound", {
  id: Schema.String,
  suggestion: Schema.optional(Schema.String)
}) {
  override get message(): string {
    return missing("agent", this.id, this.suggestion)
  }
}

export class Agents extends Context.Service<Agents, {
  /** Creates an agent with a subnet, a WireGuard key pair and one API key. The API key is returned here only. */
  create(agent: NewAgent): Effect.Effect<
    { readonly agent: Agent; readonly apiKey: Redacted.Redacted; readonly revision: Revision },
    NameTaken | NetworkPoolExhausted | StoreUnavailable
  >
  find(id: AgentId): Effect.Effect<Agent, AgentNotFound | UnreadableRow | StoreUnavailable>
  list(request: PageRequest, filter?: ClientFilter): Effect.Effect<Page<Agent>, StoreUnavailable>
  update(
    id: AgentId,
    patch: AgentPatch
  ): Effect.Effect<WithRevision<Agent>, AgentNotFound | NameTaken | UnreadableRow | StoreUnavailable>
  /**
   * Deletes an agent. With `cascade` its tunnels are deleted as well; otherwise tunnels are an error. The agent's session
   * is being closed when this returns.
   */
  remove(
    id: AgentId,
    options?: { readonly cascade?: boolean }
  ): Effect.Effect<Revision, AgentNotFound | AgentHasTunnels | StoreUnavailable>
}>()("control/services/Agents") {
  static readonly layer = Layer.effect(
    Agents,
    Effect.gen(function*() {
      const store = yield* AgentStore
      const network = yield* Network

      const create = Effect.fn("Agents.create")(function*({ name }: NewAgent) {
        const { apiKey, keyId } = mintApiKey("agent")
        const { revision, value: agent } = yield* store.create({
          id: AgentId.make(newId()),
          name,
          wireguard: generateWireguardKeyPair(),
          key: { id: keyId, hash: hashApiKey(Redacted.value(apiKey)) }
        })
        return { agent, apiKey, revision }
      })

      const orNotFound = (id: AgentId) => (agent: Option.Option<Agent>) =>
        Option.isSome(agent) ? Effect.succeed(agent.value) : Effect.fail(new AgentNotFound({ id }))

      const find = Effect.fn("Agents.find")((id: AgentId) => Effect.flatMap(store.find(id), orNotFound(id)))

      const update = Effect.fn("Agents.update")((id: AgentId, patch: AgentPatch) =>
        Effect.flatMap(
          store.update(id, patch),
          ({ revision, value }) => Effect.map(orNotFound(id)(value), (agent) => ({ value: agent, revision }))
        )
      )

      const remove = Effect.fn("Agents.remove")(function*(id: AgentId, options?: { readonly cascade?: boolean }) {
        const { revision, value: removed } = yield* store.remove(id, options?.cascade === true)
        if (!removed) return yield* new AgentNotFound({ id })
        yield* Effect.ignore(network.catchUp)
        return revision
      })

      return Agents.of({ create, find, list: store.list, update, remove })
    })
  )
}
