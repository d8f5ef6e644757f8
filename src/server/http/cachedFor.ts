import { monotonicMillis } from "#time/monotonic.ts"
import { Duration, Effect } from "effect"

/**
 * A look that costs much and is asked for often: who asks while one goes on is given what that finds, and so is who asks soon
 * after it. One that has failed is not kept.
 */
export const cachedFor = Effect.fnUntraced(function*<A, E>(look: Effect.Effect<A, E>, patience: Duration.Duration) {
  let last: { readonly found: A; readonly at: number } | undefined
  const shared = yield* Effect.cachedWithTTL(
    Effect.gen(function*() {
      const found = yield* look
      last = { found, at: yield* monotonicMillis }
      return found
    }),
    0
  )
  return Effect.flatMap(
    monotonicMillis,
    (now) => last !== undefined && now - last.at < Duration.toMillis(patience) ? Effect.succeed(last.found) : shared
  )
})
