/** Views of the client library: deltas, gaps, duplicates, merged changes, decoding (src/sdk/view.ts, messages.ts). */
import type { Config, Delta } from "#sdk/messages.ts"
import { readFrame } from "#sdk/messages.ts"
import { applyDelta, type Change, mergeChanges, type Snapshot, snapshotOf, toConfigData } from "#sdk/view.ts"
import { ControlMessageV1 } from "#schema/protocol.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { agentConfig, tunnelDelta } from "./serverFrames.ts"

const decodeConfig = (json: object): Config => {
  const message = readFrame(JSON.stringify(json), "agent")
  if (message._tag !== "Config") throw new Error(`not a config: ${JSON.stringify(message)}`)
  return message.config
}
const decodeDelta = (json: object): Delta => {
  const message = readFrame(JSON.stringify(json), "agent")
  if (message._tag !== "Delta") throw new Error(`not a delta: ${JSON.stringify(message)}`)
  return message.delta
}

const start = snapshotOf(decodeConfig(agentConfig({ revision: 10, tunnels: ["t0"] })))

/** A change history: each entry is one delta, `gap` revisions after the previous one. */
const Entry = Schema.Struct({
  gap: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 4 })),
  id: Schema.Literals(["t0", "t1", "t2"]),
  kind: Schema.Literals(["create", "update", "delete"])
})
const history = { history: Schema.Array(Entry).check(Schema.isMaxLength(20)) }

const deltasOf = (entries: ReadonlyArray<typeof Entry.Type>): ReadonlyArray<Delta> => {
  let revision = 10
  return entries.map(({ gap, id, kind }, index) => {
    const previous = revision
    revision += gap
    return decodeDelta(tunnelDelta(kind, { id, revision, previous, target: `host:${index + 1}` }))
  })
}

const run = (from: Snapshot, deltas: ReadonlyArray<Delta>) =>
  deltas.reduce<{ snapshot: Snapshot; tags: Array<string> }>(({ snapshot, tags }, delta) => {
    const outcome = applyDelta(snapshot, delta)
    return { snapshot: outcome._tag === "Changed" ? outcome.snapshot : snapshot, tags: [...tags, outcome._tag] }
  }, { snapshot: from, tags: [] })

describe("a client's view", () => {
  it.effect.prop(
    "each row is as its last delta left it",
    history,
    ({ history }) =>
      Effect.sync(() => {
        const deltas = deltasOf(history)
        const { snapshot, tags } = run(start, deltas)
        assert.isTrue(tags.every((tag) => tag === "Changed"))
        assert.strictEqual(snapshot.revision, deltas.at(-1)?.revision ?? 10)
        for (const id of ["t0", "t1", "t2"]) {
          const last = deltas.findLast((delta) => delta.key === id)
          assert.deepStrictEqual(
            snapshot.view.tunnels.get(id),
            last === undefined ? start.view.tunnels.get(id) : last.row
          )
        }
      })
  )

  it.effect.prop(
    "duplicate deltas change nothing",
    history,
    ({ history }) =>
      Effect.sync(() => {
        const deltas = deltasOf(history)
        const once = run(start, deltas).snapshot
        const again = run(once, deltas)
        assert.strictEqual(again.snapshot, once)
        assert.isTrue(again.tags.every((tag) => tag === "Duplicate"))
      })
  )

  it.effect.prop(
    "a missing delta is detected at the next one, and no later delta is applied",
    { ...history, lost: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 19 })) },
    ({ history, lost }) =>
      Effect.sync(() => {
        const deltas = deltasOf(history)
        if (lost >= deltas.length) return
        const { snapshot, tags } = run(start, deltas.toSpliced(lost, 1))
        assert.deepStrictEqual(snapshot, run(start, deltas.slice(0, lost)).snapshot)
        assert.isTrue(tags.slice(lost).every((tag) => tag === "Gap"))
      })
  )

  it.effect.prop("a resumed client ends with the same view as one that stayed connected", {
    ...history,
    at: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 20 }))
  }, ({ at, history }) =>
    Effect.sync(() => {
      const deltas = deltasOf(history)
      const atDisconnect = run(start, deltas.slice(0, at)).snapshot
      // Missed deltas arrive compacted: the last delta of each row, in order, chained from the client's revision.
      const missed = deltas.slice(at).filter((delta, index, all) =>
        all.findLastIndex(({ key }) => key === delta.key) === index
      )
      const chained = missed.map((delta, index) => ({
        ...delta,
        previous: missed[index - 1]?.revision ?? atDisconnect.revision
      }))
      const { snapshot, tags } = run(atDisconnect, chained)
      assert.isTrue(tags.every((tag) => tag === "Changed"))
      assert.deepStrictEqual(snapshot, run(start, deltas).snapshot)
    }))

  it.effect.prop("merged changes list each row once, in its final state", history, ({ history }) =>
    Effect.sync(() => {
      const changes = deltasOf(history).reduce<{ snapshot: Snapshot; change: Change | undefined }>(
        ({ change, snapshot }, delta) => {
          const outcome = applyDelta(snapshot, delta)
          return outcome._tag === "Changed"
            ? { snapshot: outcome.snapshot, change: mergeChanges(change, outcome.change) }
            : { snapshot, change }
        },
        { snapshot: start, change: undefined }
      )
      const rows = changes.change?.rows ?? []
      assert.strictEqual(new Set(rows.map(({ key }) => key)).size, rows.length)
      assert.deepStrictEqual(new Set(rows.map(({ key }) => key)), new Set(history.map(({ id }) => id)))
      for (const { key, kind } of rows) assert.strictEqual(changes.snapshot.view.tunnels.has(key), kind === "put")
    }))

  it("a config absorbs the deltas around it, and replaces the view even if its revision is older", () => {
    const deltas: Change = { source: "deltas", revision: 12, rows: [{ table: "tunnels", key: "t1", kind: "put" }] }
    const config: Change = { source: "config", revision: 11, rows: [] }
    assert.deepStrictEqual(mergeChanges(deltas, config), config)
    assert.deepStrictEqual(mergeChanges(config, deltas), { source: "config", revision: 12, rows: [] })
    assert.strictEqual(snapshotOf(decodeConfig(agentConfig({ revision: 3, timeline: "new" }))).revision, 3)
  })

  it("a delta for a table that this type of client does not have decodes as unknown", () => {
    const frame = JSON.stringify({
      type: "certificate_delete",
      revision: 11,
      previous: 10,
      data: { domain: "a.example" }
    })
    assert.deepStrictEqual(readFrame(frame, "agent"), { _tag: "Unknown", type: "certificate_delete" })
    assert.strictEqual(readFrame(frame, "gateway")._tag, "Delta")
  })

  it("a view converted to a config and back is unchanged", () => {
    const { revision, timeline, view } = start
    const decoded = decodeConfig({ type: "config", revision, timeline, data: toConfigData(view) })
    assert.deepStrictEqual(snapshotOf(decoded), start)
  })

  it.effect.prop(
    "every message of Control can be decoded by agents or by gateways",
    { message: ControlMessageV1 },
    ({ message }) =>
      Effect.sync(() => {
        const text = JSON.stringify(message)
        const read = [readFrame(text, "agent")._tag, readFrame(text, "gateway")._tag]
        assert.isTrue(read.some((tag) => tag !== "Unreadable" && tag !== "Unknown"), `${read.join()} ${text}`)
      })
  )

  it.effect.prop(
    "decoding never throws, for any text",
    { text: Schema.String, json: Schema.Json },
    ({ json, text }) =>
      Effect.sync(() => {
        readFrame(text, "agent")
        readFrame(JSON.stringify(json), "gateway")
        readFrame(JSON.stringify({ type: "config", revision: 1, timeline: "t", data: json }), "gateway")
      })
  )

  it("an undecodable message is reported by the path of the fault, never by its value", () => {
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
