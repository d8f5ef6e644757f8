/** Which revision has been handed to whose socket, for those who wait for it. */
import type { ClientRef, Revision } from "#schema/ids.ts"
import { Context, Effect, Layer, MutableRef, PubSub } from "effect"
import { type Client, ClientRegistry } from "./ClientRegistry.ts"

export class Deliveries extends Context.Service<Deliveries, {
  /** Notes that this client's socket was given everything up to this revision. */
  sent(client: Client, revision: Revision): Effect.Effect<void>
  /** Wakes who waits: a client has left. */
  readonly left: Effect.Effect<void>
  /** Returns when every connected client that this concerns was sent this revision; a client that leaves is not waited for. */
  awaitSent(revision: Revision, concerns: (client: ClientRef) => boolean): Effect.Effect<void>
}>()("control/clients/Deliveries") {
  static readonly layer = Layer.effect(
    Deliveries,
    Effect.gen(function*() {
      const registry = yield* ClientRegistry
      const progress = yield* PubSub.sliding<void>(1)
      /** Nobody is told of progress as long as nobody waits: that is nearly always. */
      let waiting = 0

      const signal = Effect.suspend(() => waiting === 0 ? Effect.void : PubSub.publish(progress, undefined))

      const sent = (client: Client, revision: Revision) =>
        Effect.suspend(() => {
          MutableRef.set(client.sent, revision)
          return signal
        })

      const awaitSent = Effect.fn("Deliveries.awaitSent")(
        function*(revision: Revision, concerns: (client: ClientRef) => boolean) {
          yield* Effect.acquireRelease(Effect.sync(() => waiting += 1), () => Effect.sync(() => waiting -= 1))
          const steps = yield* PubSub.subscribe(progress)
          while (true) {
            const clients = yield* registry.newest
            if (!clients.some((client) => MutableRef.get(client.sent) < revision && concerns(client.ref))) return
            yield* PubSub.take(steps)
          }
        },
        Effect.scoped
      )

      return Deliveries.of({ sent, left: signal, awaitSent })
    })
  )
}
