import { cachedFor } from "#http/cachedFor.ts"
import { assert, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber } from "effect"
import { TestClock } from "effect/testing"

const patience = Duration.seconds(2)

it.effect("who asks while a look goes on shares it, and who leaves takes it from nobody", () =>
  Effect.gen(function*() {
    let looks = 0
    const done = yield* Deferred.make<string>()
    const asked = yield* cachedFor(
      Effect.suspend(() => {
        looks += 1
        return Deferred.await(done)
      }),
      patience
    )
    const fork = Effect.forkChild(asked, { startImmediately: true })
    const [first, ...others] = yield* Effect.all(Array.from({ length: 20 }, () => fork))
    assert.isDefined(first)
    yield* Fiber.interrupt(first)
    yield* Deferred.succeed(done, "well")
    for (const fiber of others) assert.strictEqual(yield* Fiber.join(fiber), "well")
    assert.strictEqual(looks, 1)
  }))

it.effect("what was found is given again for a while, and then looked for anew; a failure is not", () =>
  Effect.gen(function*() {
    let looks = 0
    const asked = yield* cachedFor(
      Effect.suspend(() => (looks += 1) === 1 ? Effect.fail("away") : Effect.succeed(looks)),
      patience
    )
    assert.isTrue(Exit.isFailure(yield* Effect.exit(asked)))
    assert.strictEqual(yield* asked, 2)
    yield* TestClock.adjust("1900 millis")
    assert.strictEqual(yield* asked, 2)
    yield* TestClock.adjust("100 millis")
    assert.strictEqual(yield* asked, 3)
  }))
