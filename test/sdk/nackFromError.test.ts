/** Nack messages made from errors of `apply` (src/sdk/nackFromError.ts). */
import { nackFromError } from "#sdk/nackFromError.ts"
import { Nack } from "#schema/messagesFromClients.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"

const isNack = Schema.is(Nack)

describe("nackFromError", () => {
  it.effect.prop("nackFromError returns a valid nack for every thrown value", {
    thrown: Schema.Union([
      Schema.Json,
      Schema.Struct({ code: Schema.Json, message: Schema.Json, name: Schema.Json, tunnelId: Schema.Json })
    ])
  }, ({ thrown }) => Effect.sync(() => assert.isTrue(isNack(nackFromError(58, thrown)))))

  it("nackFromError truncates code and message to the lengths that Control accepts", () => {
    const { data } = nackFromError(58, { code: "c".repeat(100), message: "m".repeat(1_000), tunnelId: "" })
    assert.deepStrictEqual<unknown>(data, { revision: 58, code: "c".repeat(64), message: "m".repeat(500) })
    assert.isTrue(isNack(nackFromError(58, new Error("m".repeat(1_000)))))
  })

  it("nackFromError uses the error's code or name, its message and its tunnelId, and never its stack", () => {
    assert.deepStrictEqual<unknown>(nackFromError(5, Object.assign(new TypeError("no"), { tunnelId: "t1" })).data, {
      revision: 5,
      code: "TypeError",
      message: "no",
      tunnelId: "t1"
    })
    const trap = Object.defineProperty({}, "message", { get: () => assert.fail("a getter that throws") })
    for (const nothing of [undefined, null, "text", Symbol("s"), () => 1, trap]) {
      assert.strictEqual(nackFromError(5, nothing).data.code, "error")
    }
  })
})
