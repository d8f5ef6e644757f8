/** Detection of mass losses in a snapshot. */
import { httpTunnelFields } from "#support/tunnelFields.ts"
import {
  countRows,
  countUndeleted,
  expectedCounts,
  massLosses,
  missingIds,
  shortfall,
  zeroCounts
} from "#network/lossDetection.ts"
import { empty } from "#network/NetworkState.ts"
import { load } from "#network/RowLoader.ts"
import { AgentId, Revision, Timeline, TunnelId } from "#schema/ids.ts"
import { mapRowKinds } from "#schema/rowKinds.ts"
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
        enabled: true,
        ...httpTunnelFields
      }
    }))
  )

const ids = Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 60 })))

describe("loss detection", () => {
  it.effect.prop(
    "a snapshot has a loss exactly when more than ten rows and more than half of a kind are missing undeleted",
    { before: ids, after: ids, deleted: ids },
    ({ after, before, deleted }) =>
      Effect.sync(() => {
        const [known, read] = [new Set(before), new Set(after)]
        const gone = [...known].filter((id) => !read.has(id) && !deleted.includes(id)).length
        const missing = countUndeleted(mapRowKinds((kind) => missingIds(kind, tunnels(before), tunnels(after))), {
          ...mapRowKinds(() => new Set<string>()),
          tunnels: new Set(deleted.map((id) => `t${id}`))
        })
        const losses = massLosses(countRows(tunnels(before)), missing)
        const expected = gone > 10 && gone > known.size / 2
        assert.deepStrictEqual(losses, expected ? [{ kind: "tunnels", known: known.size, missing: gone }] : [])
      }),
    { arbitrary: { runs: 300, size: 60 } }
  )

  it("a loss is detected from row counts alone when the earlier rows are not known", () => {
    const before = countRows(tunnels([...Array.from({ length: 30 }).keys()]))
    const read = countRows(empty(Timeline.make("u"), Revision.make(0)))
    assert.deepStrictEqual(massLosses(before, shortfall(before, read)), [
      { kind: "tunnels", known: 30, missing: 30 }
    ])
    assert.deepStrictEqual(massLosses(read, shortfall(read, before)), [])
    // 12 rows were created and 12 others deleted, so 30 rows must still exist.
    const turnover = { created: { ...zeroCounts, tunnels: 12 }, deleted: { ...zeroCounts, tunnels: 12 } }
    assert.deepStrictEqual(expectedCounts(before, turnover), before)
  })
})
