import { decide, type Position } from "#connection/plan.ts"
import { Batch } from "#feed/Batch.ts"
import { textFrame } from "#feed/frames.ts"
import type { Step } from "#network/step.ts"
import { type ClientRef, GatewayId, Revision, TunnelId } from "#schema/ids.ts"
import { encodeMessage } from "#schema/protocol.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"

const me: ClientRef = { type: "gateway", id: GatewayId.make("me") }

/** A run of batches: how many steps each has, which are lost before they are taken, and where the client stands. */
const Case = {
  sizes: Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 4 }))).check(
    Schema.isBetweenLength(1, 8)
  ),
  lost: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 8 })),
  at: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 40 })),
  whole: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 60 })),
  kind: Schema.Literals(["Whole", "WholeForMe", "WholeForOther"])
}

const stepAt = (revision: number, whole: number, kind: string): Step => ({
  revision: Revision.make(revision),
  audience: "gateways",
  delta: revision !== whole
    ? { _tag: "Message", message: { type: "tunnel_delete", data: { id: TunnelId.make(`t${revision}`) } } }
    : kind === "Whole"
    ? { _tag: "Whole" }
    : { _tag: "WholeFor", gateway: GatewayId.make(kind === "WholeForMe" ? "me" : "other") }
})

const nonEmpty = (steps: ReadonlyArray<Step>) => steps as unknown as readonly [Step, ...ReadonlyArray<Step>]

describe("what is written to a client", () => {
  it.effect.prop(
    "each newer step exactly once and in order, or one config where something was missed or has no message",
    Case,
    ({ sizes, lost, at, whole, kind }) =>
      Effect.sync(() => {
        // Every revision is a step of this audience: 1, 2, 3, … in batches of these sizes.
        const all: Array<Batch> = []
        let revision = 0
        for (const size of sizes) {
          const steps = Array.from({ length: size }, (_, index) => stepAt(revision + 1 + index, whole, kind))
          all.push(new Batch(Revision.make(revision), nonEmpty(steps)))
          revision += size
        }
        const taken = all.slice(Math.min(lost, all.length))
        const position: Position = { revision: Revision.make(at), configBytes: 0 }
        const plan = decide(taken, position, me)
        const newer = taken.flatMap((batch) => batch.steps).filter((step) => step.revision > at)
        const missed = newer[0] !== undefined && newer[0].revision > at + 1
        const needsConfig = newer.some(({ delta }) =>
          delta._tag === "Whole" || delta._tag === "WholeFor" && delta.gateway === me.id
        )
        assert.strictEqual(plan._tag, missed || needsConfig ? "Config" : "Steps")
        if (plan._tag === "Steps") {
          const expected = newer.flatMap(({ delta }) =>
            delta._tag === "Message" ? [textFrame(encodeMessage(delta.message))] : []
          )
          assert.deepStrictEqual(Buffer.concat(plan.frames), Buffer.concat(expected))
          assert.strictEqual(plan.revision, newer.at(-1)?.revision ?? at)
        }
      }),
    { arbitrary: { runs: 1_000, size: 60 } }
  )

  it("steps that are longer than the whole view are replaced by it", () => {
    const id = TunnelId.make("t".repeat(128))
    const steps = Array.from({ length: 10_000 }, (_, index): Step => ({
      revision: Revision.make(index + 1),
      audience: "gateways",
      delta: { _tag: "Message", message: { type: "tunnel_delete", data: { id } } }
    }))
    const batch = new Batch(Revision.make(0), nonEmpty(steps))
    assert.strictEqual(decide([batch], { revision: Revision.make(0), configBytes: 0 }, me)._tag, "Config")
    assert.strictEqual(decide([batch], { revision: Revision.make(0), configBytes: 10_000_000 }, me)._tag, "Steps")
  })
})

describe("text frames", () => {
  it.effect.prop("are read by a WebSocket parser as the text that was written, of any length", {
    text: Schema.String,
    length: Schema.Literals([0, 1, 125, 126, 127, 65_535, 65_536, 70_000])
  }, ({ text, length }) =>
    Effect.promise(async () => {
      const { default: Receiver } = await import("ws").then((ws) => ({
        default: (ws as unknown as { Receiver: new() => NodeJS.ReadWriteStream }).Receiver
      }))
      const message = text.toWellFormed() + "x".repeat(length)
      const receiver = new Receiver()
      const received = new Promise<string>((done) => receiver.on("message" as "data", (data) => done(String(data))))
      receiver.write(textFrame(message))
      assert.strictEqual(await received, message)
    }), { arbitrary: { runs: 50, size: 60 } })
})
