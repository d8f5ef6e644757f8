import { attemptsThatCount, backOff } from "#sdk/backOff.ts"
import { closeCodes } from "#schema/codes.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"

const minute = 60_000
const random = Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 1 }))
const attempt = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 5_000 }))
const stopping = [4400, 4403, 4409, 4410]
const millis = (lost: Parameters<typeof backOff>[0]): number => {
  const next = backOff(lost)
  return next._tag === "Wait" ? next.millis : Number.NaN
}

describe("coming back", () => {
  it("every close code of the protocol has an answer: stop where its table says stop, else wait", () => {
    for (const { client, code } of Object.values(closeCodes)) {
      const next = backOff({ code, attempt: 0, random: 0.5 })
      assert.strictEqual(
        next._tag,
        /^stop(?! until it has another key; then slow)/u.test(client) ? "Stop" : "Wait",
        `${code}`
      )
    }
  })

  it.effect.prop(
    "no number of attempts, no hint and no chance makes a client come back after a code that forbids it, or give up after another",
    { code: Schema.Int, attempt, random, hint: Schema.UndefinedOr(Schema.Number) },
    ({ attempt, code, hint, random }) =>
      Effect.sync(() => {
        const next = backOff({ code, attempt, random, afterMillis: hint })
        if (next._tag === "Stop") assert.include([...stopping, 400, 1010], code)
        else {
          assert.isTrue(Number.isInteger(next.millis) && next.millis >= 0, `${next.millis}`)
          assert.isAtMost(next.millis, 11 * minute)
        }
        for (const code of stopping) {
          assert.strictEqual(backOff({ code, attempt, random, afterMillis: hint })._tag, "Stop")
        }
      })
  )

  it.effect.prop(
    "the delay is anywhere between nothing and a second, doubled for each attempt, up to a minute",
    { attempt, random, code: Schema.Literals([1000, 1006, 1009, 1011, 1012, 1013, 4408, 4441, 500, 502, 503, 404]) },
    ({ attempt, code, random }) =>
      Effect.sync(() => {
        const most = Math.min(minute, 1_000 * 2 ** attempt)
        assert.strictEqual(millis({ code, attempt, random }), Math.round(random * most))
        assert.strictEqual(millis({ code, attempt, random: 1 }), most)
        assert.strictEqual(millis({ code, attempt, random: 0 }), 0)
      })
  )

  it("a drain's delay is kept to the millisecond, and no server keeps a client away for longer than ten minutes", () => {
    assert.strictEqual(millis({ code: 1012, attempt: 3, random: 0.7, afterMillis: 1_234 }), 1_234)
    assert.strictEqual(millis({ code: 1012, attempt: 3, random: 0.7, afterMillis: 1e12 }), 10 * minute)
    for (const afterMillis of [-1, Number.NaN]) {
      assert.strictEqual(millis({ code: 1012, attempt: 0, random: 0.5, afterMillis }), 500)
    }
  })

  it("after Retry-After, which all clients get alike, each adds a chance of its own", () => {
    assert.strictEqual(millis({ code: 503, attempt: 0, random: 0.5, afterMillis: 2_000 }), 2_500)
  })

  it("after too many messages a client is away for a minute, and with a wrong key it tries once in one to five", () => {
    assert.strictEqual(millis({ code: 4429, attempt: 0, random: 0 }), minute)
    assert.strictEqual(millis({ code: 4401, attempt: 0, random: 0 }), minute)
    assert.strictEqual(millis({ code: 4401, attempt: 0, random: 1 }), 5 * minute)
  })

  it("a minute of being ready forgets the attempts, less does not", () => {
    assert.strictEqual(attemptsThatCount(7, minute), 0)
    assert.strictEqual(attemptsThatCount(7, minute - 1), 7)
  })
})
