/** Plans for waiting updates: each delta exactly once and in order, or one snapshot. */
import { type ConnectionPosition, planUpdate } from "#connection/updatePlan.ts"
import { Batch } from "#views/Batch.ts"
import { textFrame } from "#views/frames.ts"
import type { Agent, Gateway } from "#network/NetworkState.ts"
import type { Delta, DeltaContent } from "#views/delta.ts"
import { encodeViewMessage, messageFor, type Receiver } from "#views/deltaMessages.ts"
import { AgentId, GatewayId, Revision, Timeline, TunnelId } from "#schema/ids.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted, Schema } from "effect"

const me: Receiver = { ref: { type: "gateway", id: GatewayId.make("me") }, level: "plain", subnet: "", slot: 0 }
const meV1: Receiver = { ...me, level: "control.v1" }

const timeline = Timeline.make("t")

/** Batches by size, the number of lost batches, and the position of the client. `odd`: a change of another kind. */
const Case = {
  sizes: Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 4 }))).check(
    Schema.isBetweenLength(1, 8)
  ),
  lost: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 8 })),
  at: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 40 })),
  odd: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 60 })),
  kind: Schema.Literals(["agent", "certificate", "own", "othersOwn"])
}

const agent: Agent = {
  id: AgentId.make("a"),
  name: "a",
  virtualIp: "10.64.0.1",
  subnet: "10.64.0.0/24",
  wireguardPublicKey: "public",
  wireguardPrivateKey: null
}

const gateway = (id: string, name: string): Gateway => ({
  id: GatewayId.make(id),
  name,
  publicIp: null,
  listenPort: 51_820,
  slot: 0,
  wireguardPublicKey: "public",
  serves: null,
  wireguardPrivateKey: null
})

const oddDelta = (kind: string): DeltaContent => {
  switch (kind) {
    case "agent":
      return { _tag: "Agent", movesTunnels: false, before: undefined, after: agent }
    case "certificate":
      return {
        _tag: "Certificate",
        before: undefined,
        after: { domain: "d", certificate: "c", privateKey: Redacted.make("k"), expiresAt: "2030-01-01T00:00:00.000Z" }
      }
    default: {
      const id = kind === "own" ? "me" : "other"
      return { _tag: "Own", client: "gateway", before: gateway(id, "old"), after: gateway(id, "new") }
    }
  }
}

const stepAt = (revision: number, odd: number, kind: string): Delta => ({
  revision: Revision.make(revision),
  audience: "gateways",
  content: revision === odd
    ? oddDelta(kind)
    : deletedTunnel(TunnelId.make(`t${revision}`))
})

function deletedTunnel(id: TunnelId): Delta["content"] {
  const message = { type: "tunnel_delete", data: { id } } as const
  return { _tag: "Tunnel", messages: { plain: message, "control.v1": message } }
}

const nonEmpty = (steps: ReadonlyArray<Delta>) => steps as unknown as readonly [Delta, ...ReadonlyArray<Delta>]

/** Every revision is a step of this audience: 1, 2, 3, … in batches of these sizes. */
const batchesOf = (sizes: ReadonlyArray<number>, odd: number, kind: string): ReadonlyArray<Batch> => {
  const all: Array<Batch> = []
  let revision = 0
  for (const size of sizes) {
    const steps = Array.from({ length: size }, (_, index) => stepAt(revision + 1 + index, odd, kind))
    all.push(new Batch(timeline, Revision.make(revision), nonEmpty(steps)))
    revision += size
  }
  return all
}

const placeAt = (revision: number): ConnectionPosition => ({
  timeline,
  revision: Revision.make(revision),
  lastMessageRevision: Revision.make(revision),
  configBytes: 0
})

describe("the plan for waiting updates", () => {
  for (const receiver of [me, meV1]) {
    it.effect.prop(
      `a plan has each newer delta exactly once and in order, or a snapshot if one was missed or has no message (${receiver.level})`,
      Case,
      ({ sizes, lost, at, odd, kind }) =>
        Effect.sync(() => {
          const all = batchesOf(sizes, odd, kind)
          const taken = all.slice(Math.min(lost, all.length))
          // Frames that were encoded before, for another position, must make no difference.
          planUpdate(taken, placeAt(at === 0 ? 1 : 0), receiver)
          const plan = planUpdate(taken, placeAt(at), receiver)
          const newer = taken.flatMap((batch) => batch.deltas).filter((step) => step.revision > at)
          const missed = newer[0] !== undefined && newer[0].revision > at + 1
          const renderings = newer.map(({ content: delta }) => messageFor(delta, receiver))
          const needsConfig = renderings.some(({ _tag }) => _tag === "Resync")
          assert.strictEqual(plan._tag, missed || needsConfig ? "Snapshot" : "Deltas")
          if (plan._tag === "Snapshot") return
          let previous = Revision.make(at)
          const expected: Array<Buffer> = []
          for (const [index, rendering] of renderings.entries()) {
            const { revision } = newer[index] as Delta
            if (rendering._tag !== "Message") continue
            expected.push(textFrame(encodeViewMessage[receiver.level](rendering.message, revision, previous)))
            previous = revision
          }
          assert.strictEqual(String(Buffer.concat(plan.frames)), String(Buffer.concat(expected)))
          assert.strictEqual(plan.position.revision, newer.at(-1)?.revision ?? at)
          assert.strictEqual(plan.position.lastMessageRevision, previous)
        }),
      { arbitrary: { runs: 1_000, size: 60 } }
    )
  }

  it("a change without a message at the plain level is a snapshot there and a delta in control.v1", () => {
    for (const kind of ["agent", "certificate"]) {
      const batch = new Batch(timeline, Revision.make(0), [stepAt(1, 1, kind)])
      assert.strictEqual(planUpdate([batch], placeAt(0), me)._tag, "Snapshot")
      assert.strictEqual(planUpdate([batch], placeAt(0), meV1)._tag, "Deltas")
    }
  })

  it("a batch of another timeline is never applied, even if its revisions fit", () => {
    const other = new Batch(Timeline.make("other"), Revision.make(0), [stepAt(5, 0, "agent")])
    assert.strictEqual(planUpdate([other], placeAt(4), meV1)._tag, "Snapshot")
    assert.strictEqual(planUpdate([other], placeAt(9), meV1)._tag, "Snapshot")
  })

  it("deltas that are longer than the snapshot are replaced by the snapshot", () => {
    const id = TunnelId.make("t".repeat(128))
    const steps = Array.from({ length: 10_000 }, (_, index): Delta => ({
      revision: Revision.make(index + 1),
      audience: "gateways",
      content: deletedTunnel(id)
    }))
    const batch = new Batch(timeline, Revision.make(0), nonEmpty(steps))
    assert.strictEqual(planUpdate([batch], placeAt(0), me)._tag, "Snapshot")
    assert.strictEqual(planUpdate([batch], { ...placeAt(0), configBytes: 10_000_000 }, me)._tag, "Deltas")
  })
})

describe("a text frame", () => {
  it.effect.prop("the ws library reads a frame as the text that it was made of, at every length", {
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
