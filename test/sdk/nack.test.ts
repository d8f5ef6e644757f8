import { nackOf } from "#sdk/nack.ts"
import { Nack } from "#schema/clientMessages.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"

const isNack = Schema.is(Nack)

describe("a nack", () => {
  it.effect.prop("is one that Control takes, whatever was thrown", {
    thrown: Schema.Union([
      Schema.Json,
      Schema.Struct({ code: Schema.Json, message: Schema.Json, name: Schema.Json, tunnelId: Schema.Json })
    ])
  }, ({ thrown }) => Effect.sync(() => assert.isTrue(isNack(nackOf(58, thrown)))))

  it("is cut to what Control takes", () => {
    const { data } = nackOf(58, { code: "c".repeat(100), message: "m".repeat(1_000), tunnelId: "" })
    assert.deepStrictEqual<unknown>(data, { revision: 58, code: "c".repeat(64), message: "m".repeat(500) })
    assert.isTrue(isNack(nackOf(58, new Error("m".repeat(1_000)))))
  })

  it("has the error's own code, message and tunnel, else its name, and never its stack", () => {
    assert.deepStrictEqual<unknown>(nackOf(5, Object.assign(new TypeError("no"), { tunnelId: "t1" })).data, {
      revision: 5,
      code: "TypeError",
      message: "no",
      tunnelId: "t1"
    })
    const trap = Object.defineProperty({}, "message", { get: () => assert.fail("a getter that throws") })
    for (const nothing of [undefined, null, "text", Symbol("s"), () => 1, trap]) {
      assert.strictEqual(nackOf(5, nothing).data.code, "error")
    }
  })
})
