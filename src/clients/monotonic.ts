/** Time for judging silence: it does not jump when somebody sets the wall clock. */
import { Clock, Effect } from "effect"

/** Milliseconds since an arbitrary moment of this process. */
export const monotonicMillis: Effect.Effect<number> = Effect.map(
  Clock.monotonicTimeNanos,
  (nanos) => Number(nanos / 1_000_000n)
)
