/** Limits kept for each key or address: which addresses share a limit, and how much memory they use. */
import { KeyedBuckets } from "#rateLimit/KeyedBuckets.ts"
import { FailureBackoff } from "#rateLimit/FailureBackoff.ts"
import { RecentMap } from "#rateLimit/RecentMap.ts"
import { Quota } from "#rateLimit/Quota.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"

const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))

const longestGap = 40

describe("RecentMap", () => {
  it.effect.prop(
    "RecentMap keeps an entry for its ttl and drops it after two generations",
    { writes: Schema.Array(Schema.Struct({ name: between(0, 5), after: between(0, longestGap) })) },
    ({ writes }) =>
      Effect.sync(() => {
        const map = new RecentMap<number>(100)
        const written = new Map<string, number>()
        let at = 0
        for (const { after, name } of writes) {
          at += after
          map.set(`${name}`, at, at)
          written.set(`${name}`, at)
          for (const [other, when] of written) {
            if (at - when < 100) assert.strictEqual(map.get(other), when)
            // Each generation ends with the first write after its ttl.
            if (at - when > 2 * (100 + longestGap)) assert.isUndefined(map.get(other))
          }
        }
      })
  )

  it("RecentMap is bounded and keeps the latest entries", () => {
    const map = new RecentMap<number>(1e9, 100)
    for (let index = 0; index < 10_000; index += 1) {
      map.set(`${index}`, index, index)
      assert.isAtMost(map.size, 200)
      for (let last = Math.max(0, index - 99); last <= index; last += 33) {
        assert.strictEqual(map.get(`${last}`), last)
      }
    }
  })
})

describe("KeyedBuckets", () => {
  it.effect.prop(
    "a dropped bucket grants no extra tokens, and keys do not affect each other",
    { spends: Schema.Array(Schema.Struct({ name: between(0, 3), after: between(0, 4_000) })) },
    ({ spends }) =>
      Effect.sync(() => {
        const rate = { perSecond: 0.5, burst: 3 }
        const together = new KeyedBuckets(rate)
        const alone = [0, 1, 2, 3].map(() => ({ tokens: rate.burst, at: 0 }))
        let at = 0
        for (const { after, name } of spends) {
          at += after
          const mine = alone[name] as { tokens: number; at: number }
          const tokens = Math.min(rate.burst, mine.tokens + (at - mine.at) * rate.perSecond / 1_000)
          assert.strictEqual(together.tryAcquire(`${name}`, at), tokens >= 1)
          if (tokens >= 1) alone[name] = { tokens: tokens - 1, at }
        }
      })
  )
})

describe("FailureBackoff", () => {
  it("five failures have no delay, later ones wait up to 2 s, and 60 s without a failure reset the delay", () => {
    const failures = new FailureBackoff()
    const delays = Array.from({ length: 13 }, (_, index) => failures.recordFailure("192.0.2.1", index))
    assert.deepStrictEqual(delays, [0, 0, 0, 0, 0, 100, 200, 400, 800, 1_600, 2_000, 2_000, 2_000])
    assert.strictEqual(failures.recordFailure("192.0.2.2", 13), 0)
    assert.strictEqual(failures.recordFailure("192.0.2.1", 60_011), 2_000)
    assert.strictEqual(failures.recordFailure("192.0.2.1", 120_011), 0)
  })

  it("all IPv6 addresses of one subscriber share one failure count", () => {
    const failures = new FailureBackoff()
    for (let index = 0; index < 5; index += 1) failures.recordFailure(`2001:db8:1:2::${index}`, index)
    assert.strictEqual(failures.recordFailure("2001:db8:1:2:ffff::", 5), 100)
    assert.strictEqual(failures.recordFailure("2001:db8:1:3::", 5), 0)
  })
})

it.effect.prop(
  "a quota grants its total and its share for each address, and a second release has no effect",
  { steps: Schema.Array(Schema.Struct({ address: between(0, 3), releases: Schema.Boolean })) },
  ({ steps }) =>
    Effect.sync(() => {
      const quota = new Quota({ total: 5, perHolder: 2 })
      const held = [0, 1, 2, 3].map((): Array<() => void> => [])
      for (const { address, releases } of steps) {
        const mine = held[address] as Array<() => void>
        const all = held.flat().length
        if (releases) {
          const release = mine.shift()
          release?.()
          release?.()
        } else {
          const release = quota.tryAcquire(`192.0.2.${address}`)
          assert.strictEqual(release !== undefined, all < 5 && mine.length < 2)
          if (release !== undefined) mine.push(release)
        }
      }
    })
)
