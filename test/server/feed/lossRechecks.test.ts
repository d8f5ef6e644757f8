/** Rechecks of a held update: their pause grows with the time that a reading of the network takes. */
import { baselineOfState, LossGuard } from "#feed/LossGuard.ts"
import { load } from "#network/RowLoader.ts"
import { AgentId, KeyId, Revision, Timeline } from "#schema/ids.ts"
import { mapRowKinds } from "#schema/rowKinds.ts"
import { ChangeLog, type ChangePage } from "#store/ChangeLog.ts"
import { productionIntervals } from "#time/Intervals.ts"
import { assert, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { TestClock } from "effect/testing"

const revision = Revision.make(1)
const stateOf = (timeline: string, keys: number) =>
  load(
    Timeline.make(timeline),
    revision,
    Array.from({ length: keys }, (_, index) => ({
      _tag: "KeyPut" as const,
      revision,
      key: { id: KeyId.make(`k${index}`), hash: `h${index}`, owner: { type: "agent" as const, id: AgentId.make("a") } }
    }))
  )

const held = { state: stateOf("after", 0), tag: null, accepted: undefined, unreadable: [] }
const page = (newest: number) =>
  ({ timeline: Timeline.make("after"), newest: Revision.make(newest), accepted: undefined }) as ChangePage

it.effect("a held update whose reading takes 5 s is rechecked after 20 s, although changes arrive all the time", () =>
  Effect.gen(function*() {
    const guard = new LossGuard(yield* ChangeLog, () => {}, productionIntervals)
    const baseline = baselineOfState({ state: stateOf("before", 20), tag: null })
    yield* Effect.flip(guard.check(baseline, held))
    const isHeldBack = Effect.map(Effect.exit(guard.failWhileHeld(page(2))), ({ _tag }) => _tag === "Failure")
    assert.isTrue(yield* isHeldBack)

    yield* TestClock.adjust(productionIntervals.lossRecheckInterval)
    assert.isFalse(yield* isHeldBack)
    // The reading of the recheck.
    yield* TestClock.adjust("5 seconds")
    yield* Effect.flip(guard.check(baseline, held))
    yield* TestClock.adjust("19 seconds")
    assert.isTrue(yield* isHeldBack)
    yield* TestClock.adjust("1 second")
    assert.isFalse(yield* isHeldBack)
  }).pipe(Effect.provide(
    Layer.mock(ChangeLog)({ readDeletedIds: () => Effect.succeed(mapRowKinds(() => new Set<string>())) })
  )))
