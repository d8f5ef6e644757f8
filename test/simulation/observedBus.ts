/** The real ChangeBus, with an eye on how much waits in it. */
import { ChangeBus, type Subscription } from "#feed/ChangeBus.ts"
import type { Topic } from "#network/scope.ts"
import { Effect, Layer } from "effect"

/** What may wait for one connection: see ARCHITECTURE.md, "What is bounded". */
const capacityOf = (topic: Topic) => topic.startsWith("gateway") ? 64 : 16

/** Every subscription that is open. */
export class OpenSubscriptions {
  readonly #open = new Map<Subscription, Topic>()

  get size(): number {
    return this.#open.size
  }

  add(pushes: Subscription, topic: Topic): void {
    this.#open.set(pushes, topic)
  }

  delete(pushes: Subscription): void {
    this.#open.delete(pushes)
  }

  /** How many batches the fullest queue holds above what it may. */
  maxExcess(): number {
    let most = 0
    for (const [{ size }, topic] of this.#open) most = Math.max(most, size - capacityOf(topic))
    return most
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
            Effect.tap(bus.subscribe(topic), (pushes) => Effect.sync(() => queues.add(pushes, topic))),
            (pushes) => Effect.sync(() => queues.delete(pushes))
          )
      }))
  ).pipe(Layer.provide(ChangeBus.layer))
