/** Closes the sessions of clients and keys that have left the network, whoever deleted them. */
import { Network } from "#feed/Network.ts"
import type { NetworkState } from "#network/NetworkState.ts"
import { Effect, HashMap, Layer, PubSub } from "effect"
import { type Client, ClientRegistry } from "./ClientRegistry.ts"

/**
 * Compares all members with the state after each removal, instead of following the removals one by one: so nothing is missed
 * when many come at once or the state was read anew.
 */
export const layer = Layer.effectDiscard(Effect.gen(function*() {
  const network = yield* Network
  const registry = yield* ClientRegistry
  const removals = yield* network.removals

  yield* PubSub.take(removals).pipe(
    Effect.andThen(Effect.gen(function*() {
      const state = yield* network.state
      for (const client of yield* registry.all) {
        const reason = reasonToClose(state, client)
        if (reason !== undefined) yield* client.close(reason)
      }
    })),
    Effect.catchCause((cause) => Effect.logError("revocations could not be carried out", cause)),
    Effect.forever,
    Effect.forkScoped
  )
}))

/** Deleted weighs more than revoked: a client that is gone need not look for another key. */
export const reasonToClose = (state: NetworkState, { ref, keyId }: Pick<Client, "ref" | "keyId">) => {
  const exists = ref.type === "agent" ? HashMap.has(state.agents, ref.id) : HashMap.has(state.gateways, ref.id)
  return !exists ? "deleted" : HashMap.has(state.keys, keyId) ? undefined : "revoked"
}
