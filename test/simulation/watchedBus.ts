/** The real ChangeBus, with an eye on how much waits in it. */
import { ChangeBus, type Pushes } from "#feed/ChangeBus.ts"
import type { ClientRef } from "#schema/ids.ts"
import { Effect, Layer } from "effect"

/** What may wait for one connection: see ARCHITECTURE.md, "What is bounded". */
const capacity = { gateway: 64, agent: 16 }

/** Every subscription that is open. */
export class Queues {
  readonly #open = new Map<Pushes, ClientRef>()

  get size(): number {
    return this.#open.size
  }

  add(pushes: Pushes, client: ClientRef): void {
    this.#open.set(pushes, client)
  }

  delete(pushes: Pushes): void {
    this.#open.delete(pushes)
  }

  /** How many batches the fullest queue holds above what it may. */
  excess(): number {
    let most = 0
    for (const [{ size }, { type }] of this.#open) most = Math.max(most, size - capacity[type])
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
            Effect.tap(bus.follow(client), (pushes) => Effect.sync(() => queues.add(pushes, client))),
            (pushes) => Effect.sync(() => queues.delete(pushes))
          )
      }))
  ).pipe(Layer.provide(ChangeBus.layer))
