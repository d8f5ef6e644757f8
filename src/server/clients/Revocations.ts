/** Closes the sessions of clients and keys that have left the network, whoever deleted them. */
import { Network } from "#feed/Network.ts"
import { reasonToClose } from "#network/revocation.ts"
import { Effect, Layer, PubSub } from "effect"
import { ClientRegistry } from "./ClientRegistry.ts"

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
        if (reason !== undefined) client.peer.close(reason)
      }
    })),
    Effect.catchCause((cause) => Effect.logError("revocations could not be carried out", cause)),
    Effect.forever,
    Effect.forkScoped
  )
}))
