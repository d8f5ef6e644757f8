/** Wakes everybody who waits, at once and without waiting for anybody. */
import { Effect, Latch, type Scope } from "effect"

/** A sliding PubSub would not do: its `publishUnsafe` reaches nobody as long as one subscriber has not taken the last one. */
export class Signal {
  readonly #latches = new Set<Latch.Latch>()

  wake(): void {
    for (const latch of this.#latches) latch.openUnsafe()
  }

  /** Gives an effect that waits until `wake` was called since it last returned: who looks after each return misses nothing. */
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
