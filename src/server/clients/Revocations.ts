/** Closes the sessions of deleted clients and revoked keys, however the rows were deleted. */
import { Network } from "#feed/Network.ts"
import { reasonToClose } from "#network/revocation.ts"
import { Effect, Layer, PubSub } from "effect"
import { ClientRegistry } from "./ClientRegistry.ts"

/**
 * Compares all sessions with the network after each removal, in place of following single removals. No session is missed when
 * many removals arrive at once or the network was reloaded.
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
    Effect.catchCause((cause) => Effect.logError("cannot close revoked sessions; retrying at the next removal", cause)),
    Effect.forever,
    Effect.forkScoped
  )
}))
