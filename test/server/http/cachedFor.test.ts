/** Sharing and caching by `cachedFor`. */
import { cachedFor } from "#http/cachedFor.ts"
import { assert, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber } from "effect"
import { TestClock } from "effect/testing"

const ttl = Duration.seconds(2)

it.effect("callers during a computation share its result, also when one of them is interrupted", () =>
  Effect.gen(function*() {
    let runs = 0
    const result = yield* Deferred.make<string>()
    const cached = yield* cachedFor(
      Effect.suspend(() => {
        runs += 1
        return Deferred.await(result)
      }),
      ttl
    )
    const fork = Effect.forkChild(cached, { startImmediately: true })
    const [first, ...others] = yield* Effect.all(Array.from({ length: 20 }, () => fork))
    assert.isDefined(first)
    yield* Fiber.interrupt(first)
    yield* Deferred.succeed(result, "value")
    for (const fiber of others) assert.strictEqual(yield* Fiber.join(fiber), "value")
    assert.strictEqual(runs, 1)
  }))

it.effect("a result is reused until its ttl ends; a failure is not cached", () =>
  Effect.gen(function*() {
    let runs = 0
    const cached = yield* cachedFor(
      Effect.suspend(() => (runs += 1) === 1 ? Effect.fail("unavailable") : Effect.succeed(runs)),
      ttl
    )
    assert.isTrue(Exit.isFailure(yield* Effect.exit(cached)))
    assert.strictEqual(yield* cached, 2)
    yield* TestClock.adjust("1900 millis")
    assert.strictEqual(yield* cached, 2)
    yield* TestClock.adjust("100 millis")
    assert.strictEqual(yield* cached, 3)
  }))
