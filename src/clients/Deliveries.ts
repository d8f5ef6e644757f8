/** Which revision has been handed to whose socket, for those who wait for it. */
import { ChangeBus } from "#feed/ChangeBus.ts"
import { Network } from "#feed/Network.ts"
import type { Revision } from "#schema/ids.ts"
import type { StoreUnavailable } from "#store/sql.ts"
import { Context, Effect, Layer, PubSub } from "effect"
import { type Client, ClientRegistry } from "./ClientRegistry.ts"

export class Deliveries extends Context.Service<Deliveries, {
  /** Notes that this client's socket was given everything up to this revision. */
  note(client: Client, revision: Revision): void
  /** Wakes who waits: a client has left. */
  noteLeft(): void
  /** Returns when every connected client that this revision concerns was sent it; a client that leaves is not waited for. */
  awaitSent(revision: Revision): Effect.Effect<void, StoreUnavailable>
}>()("control/clients/Deliveries") {
  static readonly layer = Layer.effect(
    Deliveries,
    Effect.gen(function*() {
      const registry = yield* ClientRegistry
      const network = yield* Network
      const bus = yield* ChangeBus
      const progress = yield* PubSub.sliding<void>(1)
      /** Nobody is told of progress as long as nobody waits: that is nearly always. */
      let waiting = 0

      const noteLeft = () => {
        if (waiting > 0) PubSub.publishUnsafe(progress, undefined)
      }

      const note = (client: Client, revision: Revision) => {
        client.sent = revision
        noteLeft()
      }

      /** What is published to a client's audience up to this revision, and not sent to it yet, is what is waited for. */
      const awaitSent = Effect.fn("Deliveries.awaitSent")(
        function*(revision: Revision) {
          yield* Effect.acquireRelease(Effect.sync(() => waiting += 1), () => Effect.sync(() => waiting -= 1))
          const steps = yield* PubSub.subscribe(progress)
          yield* network.catchUp
          while (true) {
            const clients = yield* registry.newest
            if (!clients.some((client) => client.sent < Math.min(revision, bus.lastOf(client.ref)))) return
            yield* PubSub.take(steps)
          }
        },
        Effect.scoped
      )

      return Deliveries.of({ note, noteLeft, awaitSent })
    })
  )
}
