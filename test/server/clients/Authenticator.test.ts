/** Authentication with a test clock and a fixed network. */
import { Authenticator } from "#clients/Authenticator.ts"
import { hashApiKey } from "#crypto/apiKeys.ts"
import { Network } from "#feed/Network.ts"
import { load } from "#network/RowLoader.ts"
import { AgentId, KeyId, Revision, Timeline } from "#schema/ids.ts"
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"

const key = {
  id: KeyId.make("k1"),
  hash: hashApiKey("right"),
  owner: { type: "agent" as const, id: AgentId.make("a1") }
}
const state = load(Timeline.make("t"), Revision.make(1), [{ _tag: "KeyPut", revision: Revision.make(1), key }])

const TestAuthenticator = Authenticator.layer.pipe(
  Layer.provide(Layer.mock(Network)({ state: Effect.succeed(state), catchUp: Effect.void }))
)

/** How long the answer to a wrong key takes, in milliseconds. */
const delayOf = Effect.fnUntraced(function*(address: string) {
  const { authenticate } = yield* Authenticator
  const answer = yield* Effect.forkChild(Effect.flip(authenticate("wrong", undefined, address)))
  for (let waited = 0;; waited += 50) {
    yield* TestClock.adjust(waited === 0 ? 0 : 50)
    if (answer.pollUnsafe() === undefined) continue
    assert.strictEqual((yield* Fiber.join(answer))._tag, "InvalidApiKey")
    return waited
  }
})

it.effect("failed attempts delay the answers to their address by at most 2 s; a valid key is accepted at once", () =>
  Effect.gen(function*() {
    const { authenticate } = yield* Authenticator
    const delays = yield* Effect.forEach(Array.from({ length: 14 }), () => delayOf("192.0.2.1"))
    assert.deepStrictEqual(delays, [0, 0, 0, 0, 0, 100, 200, 400, 800, 1_600, 2_000, 2_000, 2_000, 2_000])
    assert.strictEqual(yield* delayOf("192.0.2.2"), 0)
    // The test clock stands still, so that a delayed answer would never arrive.
    assert.strictEqual((yield* authenticate("right", undefined, "192.0.2.1")).id, key.id)
    yield* TestClock.adjust("1 minute")
    assert.strictEqual(yield* delayOf("192.0.2.1"), 0)
  }).pipe(Effect.provide(TestAuthenticator)))

it.effect("the IPv6 addresses of one subscriber share one delay, whatever number of them is used", () =>
  Effect.gen(function*() {
    const delays = yield* Effect.forEach(Array.from({ length: 7 }, (_, n) => n), (n) => delayOf(`2001:db8::${n}`))
    assert.deepStrictEqual(delays, [0, 0, 0, 0, 0, 100, 200])
    assert.strictEqual(yield* delayOf("2001:db8:0:1::1"), 0)
  }).pipe(Effect.provide(TestAuthenticator)))

it.effect("an address that keeps failing stays delayed, whatever number of other addresses fail", () =>
  Effect.gen(function*() {
    const { authenticate } = yield* Authenticator
    const fail = (address: string) => Effect.flip(authenticate("wrong", undefined, address))
    yield* Effect.forEach(Array.from({ length: 9 }, (_, n) => n), () => delayOf("192.0.2.1"))
    for (let n = 0; n < 9_000; n += 1) yield* fail(`10.0.${n >> 8}.${n & 255}`)
    assert.strictEqual(yield* delayOf("192.0.2.1"), 1_600)
    for (let n = 0; n < 9_000; n += 1) yield* fail(`10.1.${n >> 8}.${n & 255}`)
    assert.strictEqual(yield* delayOf("192.0.2.1"), 2_000)
  }).pipe(Effect.provide(TestAuthenticator)))
