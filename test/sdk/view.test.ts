import type { Config, Step } from "#sdk/messages.ts"
import { readFrame } from "#sdk/messages.ts"
import { type Change, follow, fromConfig, type Held, merge, toConfigData } from "#sdk/view.ts"
import { ControlMessageV1 } from "#schema/protocol.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { agentConfig, tunnelStep } from "./frames.ts"

const decodeConfig = (json: object): Config => {
  const message = readFrame(JSON.stringify(json), "agent")
  if (message._tag !== "Config") throw new Error(`not a config: ${JSON.stringify(message)}`)
  return message.config
}
const decodeStep = (json: object): Step => {
  const message = readFrame(JSON.stringify(json), "agent")
  if (message._tag !== "Step") throw new Error(`not a step: ${JSON.stringify(message)}`)
  return message.step
}

const start = fromConfig(decodeConfig(agentConfig({ revision: 10, tunnels: ["t0"] })))

/** A history of an audience: each entry is one committed step, `gap` apart from the one before. */
const Entry = Schema.Struct({
  gap: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 4 })),
  id: Schema.Literals(["t0", "t1", "t2"]),
  kind: Schema.Literals(["create", "update", "delete"])
})
const history = { history: Schema.Array(Entry).check(Schema.isMaxLength(20)) }

const stepsOf = (entries: ReadonlyArray<typeof Entry.Type>): ReadonlyArray<Step> => {
  let revision = 10
  return entries.map(({ gap, id, kind }, index) => {
    const previous = revision
    revision += gap
    return decodeStep(tunnelStep(kind, { id, revision, previous, target: `host:${index + 1}` }))
  })
}

const run = (from: Held, steps: ReadonlyArray<Step>) =>
  steps.reduce<{ held: Held; tags: Array<string> }>(({ held, tags }, step) => {
    const followed = follow(held, step)
    return { held: followed._tag === "Changed" ? followed.held : held, tags: [...tags, followed._tag] }
  }, { held: from, tags: [] })

describe("a client's view", () => {
  it.effect.prop(
    "config and steps add up, and each row is as its last step left it",
    history,
    ({ history }) =>
      Effect.sync(() => {
        const steps = stepsOf(history)
        const { held, tags } = run(start, steps)
        assert.isTrue(tags.every((tag) => tag === "Changed"))
        assert.strictEqual(held.revision, steps.at(-1)?.revision ?? 10)
        for (const id of ["t0", "t1", "t2"]) {
          const last = steps.findLast((step) => step.key === id)
          assert.deepStrictEqual(held.view.tunnels.get(id), last === undefined ? start.view.tunnels.get(id) : last.row)
        }
      })
  )

  it.effect.prop(
    "steps that come again, in whatever number, change nothing",
    history,
    ({ history }) =>
      Effect.sync(() => {
        const steps = stepsOf(history)
        const once = run(start, steps).held
        const again = run(once, steps)
        assert.strictEqual(again.held, once)
        assert.isTrue(again.tags.every((tag) => tag === "Known"))
      })
  )

  it.effect.prop(
    "a step that is missing is noticed at the next one, and nothing is applied from then on",
    { ...history, lost: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 19 })) },
    ({ history, lost }) =>
      Effect.sync(() => {
        const steps = stepsOf(history)
        if (lost >= steps.length) return
        const { held, tags } = run(start, steps.toSpliced(lost, 1))
        assert.deepStrictEqual(held, run(start, steps.slice(0, lost)).held)
        assert.isTrue(tags.slice(lost).every((tag) => tag === "Gap"))
      })
  )

  it.effect.prop("a resumed client ends where one that never left is", {
    ...history,
    at: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 20 }))
  }, ({ at, history }) =>
    Effect.sync(() => {
      const steps = stepsOf(history)
      const middle = run(start, steps.slice(0, at)).held
      // What was missed comes merged: one step a row, the last, in order, chained from where the client was.
      const missed = steps.slice(at).filter((step, index, all) =>
        all.findLastIndex(({ key }) => key === step.key) === index
      )
      const chained = missed.map((step, index) => ({
        ...step,
        previous: missed[index - 1]?.revision ?? middle.revision
      }))
      const { held, tags } = run(middle, chained)
      assert.isTrue(tags.every((tag) => tag === "Changed"))
      assert.deepStrictEqual(held, run(start, steps).held)
    }))

  it.effect.prop("merged changes name each row once, as it is at the end", history, ({ history }) =>
    Effect.sync(() => {
      const changes = stepsOf(history).reduce<{ held: Held; change: Change | undefined }>(({ change, held }, step) => {
        const followed = follow(held, step)
        return followed._tag === "Changed"
          ? { held: followed.held, change: merge(change, followed.change) }
          : { held, change }
      }, { held: start, change: undefined })
      const rows = changes.change?.rows ?? []
      assert.strictEqual(new Set(rows.map(({ key }) => key)).size, rows.length)
      assert.deepStrictEqual(new Set(rows.map(({ key }) => key)), new Set(history.map(({ id }) => id)))
      for (const { key, kind } of rows) assert.strictEqual(changes.held.view.tunnels.has(key), kind === "put")
    }))

  it("a config swallows the steps around it, and one that is older than the view replaces it all the same", () => {
    const steps: Change = { from: "steps", revision: 12, rows: [{ table: "tunnels", key: "t1", kind: "put" }] }
    const whole: Change = { from: "config", revision: 11, rows: [] }
    assert.deepStrictEqual(merge(steps, whole), whole)
    assert.deepStrictEqual(merge(whole, steps), { from: "config", revision: 12, rows: [] })
    assert.strictEqual(fromConfig(decodeConfig(agentConfig({ revision: 3, timeline: "new" }))).revision, 3)
  })

  it("a step for a table that this client does not have is passed over when it is read", () => {
    const frame = JSON.stringify({
      type: "certificate_delete",
      revision: 11,
      previous: 10,
      data: { domain: "a.example" }
    })
    assert.deepStrictEqual(readFrame(frame, "agent"), { _tag: "Unknown", type: "certificate_delete" })
    assert.strictEqual(readFrame(frame, "gateway")._tag, "Step")
  })

  it("a view written down as a config is read back as it was", () => {
    const { revision, timeline, view } = start
    const back = decodeConfig({ type: "config", revision, timeline, data: toConfigData(view) })
    assert.deepStrictEqual(fromConfig(back), start)
  })

  it.effect.prop(
    "whatever Control may say is read, by agents and by gateways",
    { message: ControlMessageV1 },
    ({ message }) =>
      Effect.sync(() => {
        const text = JSON.stringify(message)
        const read = [readFrame(text, "agent")._tag, readFrame(text, "gateway")._tag]
        assert.isTrue(read.some((tag) => tag !== "Unreadable" && tag !== "Unknown"), `${read.join()} ${text}`)
      })
  )

  it.effect.prop(
    "no text makes reading throw",
    { text: Schema.String, json: Schema.Json },
    ({ json, text }) =>
      Effect.sync(() => {
        readFrame(text, "agent")
        readFrame(JSON.stringify(json), "gateway")
        readFrame(JSON.stringify({ type: "config", revision: 1, timeline: "t", data: json }), "gateway")
      })
  )

  it("what cannot be read is told by its place, never by its value", () => {
    const config = agentConfig({ revision: 5 })
    const broken = {
      ...config,
      data: { ...config.data, agent: { ...config.data.agent, wireguardPrivateKey: "S3CRET" } }
    }
    const read = readFrame(JSON.stringify(broken), "agent")
    assert.deepStrictEqual(read, {
      _tag: "Unreadable",
      type: "config",
      reason: "config cannot be read: data.agent.wireguardPrivateKey",
      revision: 5
    })
  })
})
