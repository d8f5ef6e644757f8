import { countsOf, expectedAfter, fewerThan, massive, missingFrom, none, notDeleted } from "#network/lossDetection.ts"
import { empty, load } from "#network/NetworkState.ts"
import { AgentId, Revision, Timeline, TunnelId } from "#schema/ids.ts"
import { ofEach } from "#schema/rowKinds.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"

const tunnels = (ids: ReadonlyArray<number>) =>
  load(
    Timeline.make("t"),
    Revision.make(1),
    ids.map((id) => ({
      _tag: "TunnelPut" as const,
      revision: Revision.make(1),
      tunnel: {
        id: TunnelId.make(`t${id}`),
        agentId: AgentId.make("a"),
        domain: `${id}.example.com`,
        target: "localhost:1",
        enabled: true
      }
    }))
  )

const ids = Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 60 })))

describe("a whole reading", () => {
  it.effect.prop(
    "is suspect exactly when more than ten rows and more than half of a kind are missing that were not deleted",
    { before: ids, after: ids, deleted: ids },
    ({ after, before, deleted }) =>
      Effect.sync(() => {
        const [known, read] = [new Set(before), new Set(after)]
        const gone = [...known].filter((id) => !read.has(id) && !deleted.includes(id)).length
        const missing = notDeleted(missingFrom(tunnels(before), tunnels(after)), {
          ...ofEach(() => new Set<string>()),
          tunnels: new Set(deleted.map((id) => `t${id}`))
        })
        const losses = massive(countsOf(tunnels(before)), missing)
        const expected = gone > 10 && gone > known.size / 2
        assert.deepStrictEqual(losses, expected ? [{ kind: "tunnels", known: known.size, missing: gone }] : [])
      }),
    { arbitrary: { runs: 300, size: 60 } }
  )

  it("is suspect by numbers alone where nothing else is known of before", () => {
    const before = countsOf(tunnels([...Array.from({ length: 30 }).keys()]))
    const read = countsOf(empty(Timeline.make("u"), Revision.make(0)))
    assert.deepStrictEqual(massive(before, fewerThan(before, read)), [
      { kind: "tunnels", known: 30, missing: 30 }
    ])
    assert.deepStrictEqual(massive(read, fewerThan(read, before)), [])
    // Twelve were created and as many others deleted: thirty must be there all the same.
    const turnover = { created: { ...none, tunnels: 12 }, deleted: { ...none, tunnels: 12 } }
    assert.deepStrictEqual(expectedAfter(before, turnover), before)
  })
})
