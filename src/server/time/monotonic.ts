/** Monotonic time for measuring durations; a change of the wall clock does not affect it. */
import { Clock, Effect } from "effect"

/** Milliseconds since an arbitrary moment of this process. */
export const monotonicMillis: Effect.Effect<number> = Effect.map(Clock.Clock, (clock) => monotonicMillisUnsafe(clock))

/** `monotonicMillis` for code that runs for every message and has looked up the clock once. */
export const monotonicMillisUnsafe = (clock: Clock.Clock): number =>
  Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
