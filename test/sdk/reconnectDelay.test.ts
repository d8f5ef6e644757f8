/** Delays between connections of the client library (src/sdk/reconnectDelay.ts). */
import { attemptsAfterConnection, reconnectDelay } from "#sdk/reconnectDelay.ts"
import { closeCodes } from "#schema/codes.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"

const minuteMillis = 60_000
const random = Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 1 }))
const attempt = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 5_000 }))
const permanentCodes = [4400, 4403, 4409, 4410]
const waitMillis = (disconnect: Parameters<typeof reconnectDelay>[0]): number => {
  const next = reconnectDelay(disconnect)
  return next._tag === "Wait" ? next.millis : Number.NaN
}

describe("reconnectDelay", () => {
  it("a client stops after exactly the close codes that the table of protocol.md marks as final", () => {
    for (const { clientAction, code } of Object.values(closeCodes)) {
      const next = reconnectDelay({ code, attempt: 0, random: 0.5 })
      assert.strictEqual(
        next._tag,
        clientAction.startsWith("stop") ? "Stop" : "Wait",
        `${code}`
      )
    }
  })

  it.effect.prop(
    "a client never reconnects after a permanent close code and never stops after another code, for any attempt, delay and random number",
    { code: Schema.Int, attempt, random, hint: Schema.UndefinedOr(Schema.Number) },
    ({ attempt, code, hint, random }) =>
      Effect.sync(() => {
        const next = reconnectDelay({ code, attempt, random, retryAfterMillis: hint })
        if (next._tag === "Stop") assert.include([...permanentCodes, 400, 1010], code)
        else {
          assert.isTrue(Number.isInteger(next.millis) && next.millis >= 0, `${next.millis}`)
          assert.isAtMost(next.millis, 11 * minuteMillis)
        }
        for (const code of permanentCodes) {
          assert.strictEqual(reconnectDelay({ code, attempt, random, retryAfterMillis: hint })._tag, "Stop")
        }
      })
  )

  it.effect.prop(
    "a client waits between 0 and 1 s, doubled for each attempt, up to 1 minute",
    { attempt, random, code: Schema.Literals([1000, 1006, 1009, 1011, 1012, 1013, 4408, 4441, 500, 502, 503, 404]) },
    ({ attempt, code, random }) =>
      Effect.sync(() => {
        const maxMillis = Math.min(minuteMillis, 1_000 * 2 ** attempt)
        assert.strictEqual(waitMillis({ code, attempt, random }), Math.round(random * maxMillis))
        assert.strictEqual(waitMillis({ code, attempt, random: 1 }), maxMillis)
        assert.strictEqual(waitMillis({ code, attempt, random: 0 }), 0)
      })
  )

  it("a client follows the delay of a drain to the millisecond, up to 10 minutes", () => {
    assert.strictEqual(waitMillis({ code: 1012, attempt: 3, random: 0.7, retryAfterMillis: 1_234 }), 1_234)
    assert.strictEqual(waitMillis({ code: 1012, attempt: 3, random: 0.7, retryAfterMillis: 1e12 }), 10 * minuteMillis)
    for (const retryAfterMillis of [-1, Number.NaN]) {
      assert.strictEqual(waitMillis({ code: 1012, attempt: 0, random: 0.5, retryAfterMillis }), 500)
    }
  })

  it("a client adds jitter to Retry-After, because all clients get the same value", () => {
    assert.strictEqual(waitMillis({ code: 503, attempt: 0, random: 0.5, retryAfterMillis: 2_000 }), 2_500)
  })

  it("a client waits as long as the server requests or 1 minute after 4429, and 1 to 5 minutes after 4401 with retryAuth", () => {
    assert.strictEqual(waitMillis({ code: 4429, attempt: 0, random: 0 }), minuteMillis)
    assert.strictEqual(waitMillis({ code: 4429, attempt: 0, random: 0, retryAfterMillis: 90_000 }), 90_000)
    assert.strictEqual(waitMillis({ code: 4429, attempt: 0, random: 0, retryAfterMillis: 5_000 }), 5_000)
    assert.strictEqual(waitMillis({ code: 4429, attempt: 0, random: 0, retryAfterMillis: -1 }), minuteMillis)
    const rejected = { code: 4401, attempt: 0, retriesAuth: true }
    assert.strictEqual(waitMillis({ ...rejected, random: 0 }), minuteMillis)
    assert.strictEqual(waitMillis({ ...rejected, random: 1 }), 5 * minuteMillis)
  })

  it("a connection that was ready for 1 minute resets the attempts, a shorter one does not", () => {
    assert.strictEqual(attemptsAfterConnection(7, minuteMillis), 0)
    assert.strictEqual(attemptsAfterConnection(7, minuteMillis - 1), 7)
  })
})
