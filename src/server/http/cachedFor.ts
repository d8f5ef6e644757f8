/** Caches the result of an expensive effect for a short time and shares one running computation. */
import { monotonicMillis } from "#time/monotonic.ts"
import { Duration, Effect } from "effect"

/**
 * Returns an effect that runs `compute` at most once per `ttl`. Callers during a run share its result. A failure is returned
 * to these callers and not cached.
 */
export const cachedFor = Effect.fnUntraced(function*<A, E>(compute: Effect.Effect<A, E>, ttl: Duration.Duration) {
  let cached: { readonly value: A; readonly at: number } | undefined
  const computeShared = yield* Effect.cachedWithTTL(
    Effect.gen(function*() {
      const value = yield* compute
      cached = { value, at: yield* monotonicMillis }
      return value
    }),
    0
  )
  return Effect.flatMap(
    monotonicMillis,
    (now) =>
      cached !== undefined && now - cached.at < Duration.toMillis(ttl) ? Effect.succeed(cached.value) : computeShared
  )
})
