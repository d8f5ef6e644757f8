/** The real ChangeBus, with an eye on how much waits in it. */
import { ChangeBus, type Push } from "#feed/ChangeBus.ts"
import type { ClientRef } from "#schema/ids.ts"
import { Effect, Layer, Option, PubSub } from "effect"

/** What may wait for one connection: see ARCHITECTURE.md, "What is bounded". */
const capacity = { gateway: 64, agent: 16 }

/** Every subscription that is open. */
export class Queues {
  readonly #open = new Map<PubSub.Subscription<Push>, ClientRef>()

  get size(): number {
    return this.#open.size
  }

  add(subscription: PubSub.Subscription<Push>, client: ClientRef): void {
    this.#open.set(subscription, client)
  }

  delete(subscription: PubSub.Subscription<Push>): void {
    this.#open.delete(subscription)
  }

  /** How many batches the fullest queue holds above what it may. */
  excess(): number {
    let most = 0
    for (const [subscription, { type }] of this.#open) {
      const waiting = Option.getOrElse(PubSub.remainingUnsafe(subscription), () => 0)
      most = Math.max(most, waiting - capacity[type])
    }
    return most
  }
}

export const watchedBus = (queues: Queues): Layer.Layer<ChangeBus> =>
  Layer.effect(
    ChangeBus,
    Effect.map(ChangeBus, (bus) =>
      ChangeBus.of({
        ...bus,
        follow: (client) =>
          Effect.acquireRelease(
            Effect.tap(bus.follow(client), (subscription) => Effect.sync(() => queues.add(subscription, client))),
            (subscription) => Effect.sync(() => queues.delete(subscription))
          )
      }))
  ).pipe(Layer.provide(ChangeBus.layer))
