/** Time for judging silence: it does not jump when somebody sets the wall clock. */
import { Clock, Effect } from "effect"

/** Milliseconds since an arbitrary moment of this process. */
export const monotonicMillis: Effect.Effect<number> = Effect.map(Clock.Clock, (clock) => monotonicMillisUnsafe(clock))

/** The same for code that runs for every message, and has looked up the clock once. */
export const monotonicMillisUnsafe = (clock: Clock.Clock): number =>
  Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)
