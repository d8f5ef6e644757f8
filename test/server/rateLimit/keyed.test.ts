/** What is counted by name or address: who is told apart, and how much is remembered. */
import { KeyedBuckets } from "#rateLimit/KeyedBuckets.ts"
import { FailureBackoff } from "#rateLimit/FailureBackoff.ts"
import { RecentMap } from "#rateLimit/RecentMap.ts"
import { Quota } from "#rateLimit/Quota.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"

const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))

const longestGap = 40

describe("what is remembered lately", () => {
  it.effect.prop(
    "stays for as long as it is said to, and is forgotten when two generations of others have come",
    { notes: Schema.Array(Schema.Struct({ name: between(0, 5), after: between(0, longestGap) })) },
    ({ notes }) =>
      Effect.sync(() => {
        const lately = new RecentMap<number>(100)
        const noted = new Map<string, number>()
        let at = 0
        for (const { after, name } of notes) {
          at += after
          lately.note(`${name}`, at, at)
          noted.set(`${name}`, at)
          for (const [other, when] of noted) {
            if (at - when < 100) assert.strictEqual(lately.get(other), when)
            // Each generation ends with the first note after its time.
            if (at - when > 2 * (100 + longestGap)) assert.isUndefined(lately.get(other))
          }
        }
      })
  )

  it("has a bound, and who was noted last is in it", () => {
    const lately = new RecentMap<number>(1e9, 100)
    for (let index = 0; index < 10_000; index += 1) {
      lately.note(`${index}`, index, index)
      assert.isAtMost(lately.size, 200)
      for (let last = Math.max(0, index - 99); last <= index; last += 33) {
        assert.strictEqual(lately.get(`${last}`), last)
      }
    }
  })
})

describe("buckets by name", () => {
  it.effect.prop(
    "nobody gets more by waiting to be forgotten, and nobody less since others are there",
    { wishes: Schema.Array(Schema.Struct({ name: between(0, 3), after: between(0, 4_000) })) },
    ({ wishes }) =>
      Effect.sync(() => {
        const rate = { perSecond: 0.5, burst: 3 }
        const together = new KeyedBuckets(rate)
        const alone = [0, 1, 2, 3].map(() => ({ tokens: rate.burst, at: 0 }))
        let at = 0
        for (const { after, name } of wishes) {
          at += after
          const mine = alone[name] as { tokens: number; at: number }
          const tokens = Math.min(rate.burst, mine.tokens + (at - mine.at) * rate.perSecond / 1_000)
          assert.strictEqual(together.take(`${name}`, at), tokens >= 1)
          if (tokens >= 1) alone[name] = { tokens: tokens - 1, at }
        }
      })
  )
})

describe("failures of an address", () => {
  it("five are free, then each waits longer, up to two seconds; a minute without one forgives all", () => {
    const failures = new FailureBackoff()
    const delays = Array.from({ length: 13 }, (_, index) => failures.note("192.0.2.1", index))
    assert.deepStrictEqual(delays, [0, 0, 0, 0, 0, 100, 200, 400, 800, 1_600, 2_000, 2_000, 2_000])
    assert.strictEqual(failures.note("192.0.2.2", 13), 0)
    assert.strictEqual(failures.note("192.0.2.1", 60_011), 2_000)
    assert.strictEqual(failures.note("192.0.2.1", 120_011), 0)
  })

  it("all of an IPv6 subscriber's addresses are one", () => {
    const failures = new FailureBackoff()
    for (let index = 0; index < 5; index += 1) failures.note(`2001:db8:1:2::${index}`, index)
    assert.strictEqual(failures.note("2001:db8:1:2:ffff::", 5), 100)
    assert.strictEqual(failures.note("2001:db8:1:3::", 5), 0)
  })
})

it.effect.prop(
  "places are as many as there are, in all and for each address, whoever comes and leaves, however often",
  { turns: Schema.Array(Schema.Struct({ address: between(0, 3), leaves: Schema.Boolean })) },
  ({ turns }) =>
    Effect.sync(() => {
      const places = new Quota(5, 2)
      const there = [0, 1, 2, 3].map((): Array<() => void> => [])
      for (const { address, leaves } of turns) {
        const mine = there[address] as Array<() => void>
        const all = there.flat().length
        if (leaves) {
          const leave = mine.shift()
          leave?.()
          leave?.()
        } else {
          const leave = places.take(`192.0.2.${address}`)
          assert.strictEqual(leave !== undefined, all < 5 && mine.length < 2)
          if (leave !== undefined) mine.push(leave)
        }
      }
    })
)
