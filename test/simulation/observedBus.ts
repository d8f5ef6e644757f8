/** The real ChangeBus, with an eye on how much waits in it. */
import { ChangeBus, type Pushes } from "#feed/ChangeBus.ts"
import type { Topic } from "#network/scope.ts"
import { Effect, Layer } from "effect"

/** What may wait for one connection: see ARCHITECTURE.md, "What is bounded". */
const capacityOf = (topic: Topic) => topic.startsWith("gateway") ? 64 : 16

/** Every subscription that is open. */
export class Queues {
  readonly #open = new Map<Pushes, Topic>()

  get size(): number {
    return this.#open.size
  }

  add(pushes: Pushes, topic: Topic): void {
    this.#open.set(pushes, topic)
  }

  delete(pushes: Pushes): void {
    this.#open.delete(pushes)
  }

  /** How many batches the fullest queue holds above what it may. */
  excess(): number {
    let most = 0
    for (const [{ size }, topic] of this.#open) most = Math.max(most, size - capacityOf(topic))
    return most
  }
}

export const watchedBus = (queues: Queues): Layer.Layer<ChangeBus> =>
  Layer.effect(
    ChangeBus,
    Effect.map(ChangeBus, (bus) =>
      ChangeBus.of({
        ...bus,
        follow: (topic) =>
          Effect.acquireRelease(
            Effect.tap(bus.follow(topic), (pushes) => Effect.sync(() => queues.add(pushes, topic))),
            (pushes) => Effect.sync(() => queues.delete(pushes))
          )
      }))
  ).pipe(Layer.provide(ChangeBus.layer))
