/** The laws of a token bucket, whoever spends when. */
import {
  type Bucket,
  charge,
  full,
  fullAfterMillis,
  left,
  type Rate,
  restMillis,
  tryTake
} from "#rateLimit/TokenBucket.ts"
import { assert, it } from "@effect/vitest"
import { Effect, Schema } from "effect"

const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))

const rates = Schema.Struct({ perSecond: between(1, 2_000), burst: between(1, 5_000) })

/** Who wants how much, and how long after the one before; a clock may stand still. */
const wishes = Schema.Array(Schema.Struct({ amount: between(0, 3_000), after: between(0, 4_000) }))

/** Rounding of sums of binary fractions; no token is as small. */
const slack = 1e-6

interface Spent {
  readonly at: number
  readonly amount: number
}

/** What was granted, and the bucket after each wish. */
function spendAll(rate: Rate, wanted: typeof wishes.Type) {
  let bucket = full(rate, 0)
  let at = 0
  const spent: Array<Spent> = []
  const buckets: Array<Bucket> = []
  for (const { after, amount } of wanted) {
    at += after
    const next = tryTake(bucket, rate, at, amount)
    if (next !== undefined) spent.push({ at, amount })
    bucket = next ?? bucket
    buckets.push(bucket)
  }
  return { spent, buckets }
}

it.effect.prop(
  "no stretch of time sees more than the burst and what came back in it",
  { rate: rates, wanted: wishes },
  ({ rate, wanted }) =>
    Effect.sync(() => {
      const { spent } = spendAll(rate, wanted)
      for (const [first, { at: from }] of spent.entries()) {
        let sum = 0
        for (const { amount, at } of spent.slice(first)) {
          sum += amount
          assert.isAtMost(sum, rate.burst + rate.perSecond * (at - from) / 1_000 + slack)
        }
      }
    })
)

it.effect.prop("there is never less than nothing, nor more than the burst", { rate: rates, wanted: wishes }, (
  { rate, wanted }
) =>
  Effect.sync(() => {
    for (const bucket of spendAll(rate, wanted).buckets) {
      assert.isAtLeast(bucket.tokens, 0)
      assert.isAtMost(bucket.tokens, rate.burst)
      assert.isAtMost(left(bucket, rate, bucket.at + 1e9), rate.burst)
    }
  }))

it.effect.prop(
  "what was spent comes back at the rate, however often it is looked at, and up to the burst",
  { rate: rates, amount: between(1, 5_000), looks: Schema.Array(between(0, 1_000)) },
  ({ amount, looks, rate }) =>
    Effect.sync(() => {
      const spent = tryTake(full(rate, 0), rate, 0, Math.min(amount, rate.burst)) as Bucket
      let bucket = spent
      let at = 0
      for (const after of looks) {
        at += after
        bucket = tryTake(bucket, rate, at, 0) as Bucket
      }
      assert.approximately(
        bucket.tokens,
        Math.min(rate.burst, rate.burst - Math.min(amount, rate.burst) + rate.perSecond * at / 1_000),
        slack
      )
      assert.strictEqual(left(spent, rate, fullAfterMillis(rate) + slack), rate.burst)
    })
)

it.effect.prop("a clock that steps back gives nothing twice", { rate: rates, back: between(1, 10_000) }, (
  { back, rate }
) =>
  Effect.sync(() => {
    const spent = tryTake(full(rate, 20_000), rate, 20_000, rate.burst) as Bucket
    const looked = tryTake(spent, rate, 20_000 - back, 0) as Bucket
    assert.deepStrictEqual(looked, spent)
  }))

it.effect.prop(
  "who is charged, and rests for as long as that says, has taken no more than the burst and the rate",
  { rate: rates, charges: wishes },
  ({ charges, rate }) =>
    Effect.sync(() => {
      let bucket = full(rate, 0)
      let at = 0
      let sum = 0
      for (const { after, amount } of charges) {
        at += after
        sum += amount
        bucket = charge(bucket, rate, at, amount)
        at += restMillis(bucket, rate)
        assert.isAtMost(sum, rate.burst + rate.perSecond * at / 1_000 + slack)
      }
    })
)
