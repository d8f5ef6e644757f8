/** Agents as operators ask for them: rows are written here, and everything else follows from the rows. */
import { hashApiKey, mintApiKey } from "#crypto/apiKeys.ts"
import { newId } from "#crypto/identifiers.ts"
import { generateWireguardKeyPair } from "#crypto/wireguardKeys.ts"
import { Network } from "#feed/Network.ts"
import { AgentId, type Revision } from "#schema/ids.ts"
import type { Agent, AgentPatch, NewAgent, Page, PageRequest } from "#schema/resources.ts"
import { type AgentHasTunnels, AgentStore, type NetworkPoolExhausted } from "#store/AgentStore.ts"
import type { StoreUnavailable, Written } from "#store/sql.ts"
import type { UnreadableRow } from "#store/UnreadableRow.ts"
import { Context, Effect, Layer, Option, Redacted, Schema } from "effect"

export { AgentHasTunnels, NetworkPoolExhausted } from "#store/AgentStore.ts"

export class AgentNotFound extends Schema.TaggedError<AgentNotFound>()("AgentNotFound", { id: Schema.String }) {
  override get message(): string {
    return `there is no agent ${this.id}`
  }
}

export class Agents extends Context.Service<Agents, {
  /** With a subnet, a WireGuard key pair and one API key, which nobody can read again. */
  create(agent: NewAgent): Effect.Effect<
    { readonly agent: Agent; readonly apiKey: Redacted.Redacted; readonly revision: Revision },
    NetworkPoolExhausted | StoreUnavailable
  >
  find(id: AgentId): Effect.Effect<Agent, AgentNotFound | UnreadableRow | StoreUnavailable>
  list(request: PageRequest): Effect.Effect<Page<Agent>, StoreUnavailable>
  update(
    id: AgentId,
    patch: AgentPatch
  ): Effect.Effect<Written<Agent>, AgentNotFound | UnreadableRow | StoreUnavailable>
  /** An agent that has tunnels stays, unless they are to go with it. Its session is being closed when this returns. */
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

      const found = (id: AgentId) => (agent: Option.Option<Agent>) =>
        Option.isSome(agent) ? Effect.succeed(agent.value) : Effect.fail(new AgentNotFound({ id }))

      const find = Effect.fn("Agents.find")((id: AgentId) => Effect.flatMap(store.find(id), found(id)))

      const update = Effect.fn("Agents.update")((id: AgentId, patch: AgentPatch) =>
        Effect.flatMap(
          store.update(id, patch),
          ({ revision, value }) => Effect.map(found(id)(value), (agent) => ({ value: agent, revision }))
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
