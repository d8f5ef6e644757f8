/** Wake-up without content for any number of fibers. */
import { Effect, Latch, type Scope } from "effect"

/**
 * A sliding `PubSub` does not work here, because its `publishUnsafe` reaches no subscriber as long as one of them has not taken
 * the last message.
 */
export class Signal {
  readonly #latches = new Set<Latch.Latch>()

  /** Wakes every subscriber at once, without waiting for any of them. */
  wake(): void {
    for (const latch of this.#latches) latch.openUnsafe()
  }

  /**
   * Returns an effect that waits until `wake` was called since the effect returned last. A subscriber that reads the state
   * after each return misses no change.
   */
  readonly subscribe: Effect.Effect<Effect.Effect<void>, never, Scope.Scope> = Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const latch = Latch.makeUnsafe()
        this.#latches.add(latch)
        return latch
      }),
      (latch) => Effect.sync(() => this.#latches.delete(latch))
    ),
    (latch) => Effect.tap(latch.await, () => Effect.sync(() => latch.closeUnsafe()))
  )
}
