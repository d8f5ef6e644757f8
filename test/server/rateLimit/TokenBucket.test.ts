/** Laws of a token bucket for any sequence of spends. */
import {
  availableTokens,
  type Bucket,
  debtMillis,
  fullBucket,
  type Rate,
  refillMillis,
  spendIntoDebt,
  tryAcquire
} from "#rateLimit/TokenBucket.ts"
import { assert, it } from "@effect/vitest"
import { Effect, Schema } from "effect"

const between = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))

const rates = Schema.Struct({ perSecond: between(1, 2_000), burst: between(1, 5_000) })

/** Spends: the amount, and the milliseconds since the spend before; the clock may stand still. */
const spends = Schema.Array(Schema.Struct({ amount: between(0, 3_000), after: between(0, 4_000) }))

/** Rounding error of sums of binary fractions. */
const slack = 1e-6

interface Spent {
  readonly at: number
  readonly amount: number
}

/** The granted spends, and the bucket after each attempt. */
function spendAll(rate: Rate, attempts: typeof spends.Type) {
  let bucket = fullBucket(rate, 0)
  let at = 0
  const spent: Array<Spent> = []
  const buckets: Array<Bucket> = []
  for (const { after, amount } of attempts) {
    at += after
    const next = tryAcquire(bucket, rate, at, amount)
    if (next !== undefined) spent.push({ at, amount })
    bucket = next ?? bucket
    buckets.push(bucket)
  }
  return { spent, buckets }
}

it.effect.prop(
  "a token bucket grants at most the burst plus the refilled tokens in any interval",
  { rate: rates, attempts: spends },
  ({ rate, attempts }) =>
    Effect.sync(() => {
      const { spent } = spendAll(rate, attempts)
      for (const [first, { at: from }] of spent.entries()) {
        let sum = 0
        for (const { amount, at } of spent.slice(first)) {
          sum += amount
          assert.isAtMost(sum, rate.burst + rate.perSecond * (at - from) / 1_000 + slack)
        }
      }
    })
)

it.effect.prop("a token bucket holds between zero tokens and the burst", { rate: rates, attempts: spends }, (
  { rate, attempts }
) =>
  Effect.sync(() => {
    for (const bucket of spendAll(rate, attempts).buckets) {
      assert.isAtLeast(bucket.tokens, 0)
      assert.isAtMost(bucket.tokens, rate.burst)
      assert.isAtMost(availableTokens(bucket, rate, bucket.at + 1e9), rate.burst)
    }
  }))

it.effect.prop(
  "a token bucket refills at its rate up to the burst, however often it is read",
  { rate: rates, amount: between(1, 5_000), reads: Schema.Array(between(0, 1_000)) },
  ({ amount, rate, reads }) =>
    Effect.sync(() => {
      const spent = tryAcquire(fullBucket(rate, 0), rate, 0, Math.min(amount, rate.burst)) as Bucket
      let bucket = spent
      let at = 0
      for (const after of reads) {
        at += after
        bucket = tryAcquire(bucket, rate, at, 0) as Bucket
      }
      assert.approximately(
        bucket.tokens,
        Math.min(rate.burst, rate.burst - Math.min(amount, rate.burst) + rate.perSecond * at / 1_000),
        slack
      )
      assert.strictEqual(availableTokens(spent, rate, refillMillis(rate) + slack), rate.burst)
    })
)

it.effect.prop("a clock that steps back refills no tokens twice", { rate: rates, back: between(1, 10_000) }, (
  { back, rate }
) =>
  Effect.sync(() => {
    const spent = tryAcquire(fullBucket(rate, 20_000), rate, 20_000, rate.burst) as Bucket
    const read = tryAcquire(spent, rate, 20_000 - back, 0) as Bucket
    assert.deepStrictEqual(read, spent)
  }))

it.effect.prop(
  "a spender that pauses for its debt stays within the burst and the rate",
  { rate: rates, charges: spends },
  ({ charges, rate }) =>
    Effect.sync(() => {
      let bucket = fullBucket(rate, 0)
      let at = 0
      let sum = 0
      for (const { after, amount } of charges) {
        at += after
        sum += amount
        bucket = spendIntoDebt(bucket, rate, at, amount)
        at += debtMillis(bucket, rate)
        assert.isAtMost(sum, rate.burst + rate.perSecond * at / 1_000 + slack)
      }
    })
)
