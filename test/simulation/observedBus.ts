/** The real `ChangeBus`, with a list of its open subscriptions. */
import { ChangeBus, type Subscription } from "#feed/ChangeBus.ts"
import type { Topic } from "#network/scope.ts"
import { Effect, Layer } from "effect"

/** Maximum number of waiting batches for one connection, as in `ChangeBus`. */
const maxBatches = (topic: Topic) => topic.startsWith("gateway") ? 64 : 16

/** All open subscriptions of one node. */
export class OpenSubscriptions {
  readonly #open = new Map<Subscription, Topic>()

  get size(): number {
    return this.#open.size
  }

  add(subscription: Subscription, topic: Topic): void {
    this.#open.set(subscription, topic)
  }

  delete(subscription: Subscription): void {
    this.#open.delete(subscription)
  }

  /** Batches above the limit in the fullest queue; 0 when no queue exceeds its limit. */
  maxExcess(): number {
    let max = 0
    for (const [{ size }, topic] of this.#open) max = Math.max(max, size - maxBatches(topic))
    return max
  }
}

export const observedBus = (queues: OpenSubscriptions): Layer.Layer<ChangeBus> =>
  Layer.effect(
    ChangeBus,
    Effect.map(ChangeBus, (bus) =>
      ChangeBus.of({
        ...bus,
        subscribe: (topic) =>
          Effect.acquireRelease(
            Effect.tap(bus.subscribe(topic), (subscription) => Effect.sync(() => queues.add(subscription, topic))),
            (subscription) => Effect.sync(() => queues.delete(subscription))
          )
      }))
  ).pipe(Layer.provide(ChangeBus.layer))
