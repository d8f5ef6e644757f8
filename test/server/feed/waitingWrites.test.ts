/** Reading of the change log while writes wait: the changes of 50 ms are sent together. */
import { Events } from "#events/Events.ts"
import { ChangeBus } from "#feed/ChangeBus.ts"
import { ChangeNotifier } from "#feed/ChangeNotifier.ts"
import { Network } from "#feed/Network.ts"
import { load } from "#network/RowLoader.ts"
import { Revision, Timeline } from "#schema/ids.ts"
import { mapRowKinds } from "#schema/rowKinds.ts"
import { ChangeLog, type ChangePage } from "#store/ChangeLog.ts"
import { EventStore } from "#store/EventStore.ts"
import { HighWaterMarkStore } from "#store/HighWaterMark.ts"
import { Intervals, productionIntervals } from "#time/Intervals.ts"
import { assert, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Option, Queue } from "effect"
import { TestClock } from "effect/testing"

const timeline = Timeline.make("t")
const revision = Revision.make(1)
const nothingNew: ChangePage = {
  timeline,
  newest: revision,
  oldest: revision,
  changes: [],
  upTo: revision,
  tag: "tag",
  tagBefore: "tag",
  accepted: undefined,
  unreadable: []
}

/** A network whose log has no more changes. `reads` gets an element for each reading of the log. */
const start = Effect.gen(function*() {
  const reads = yield* Queue.unbounded<void>()
  const log = { hasWaitingWrites: true }
  let wake: Effect.Effect<void> = Effect.void
  const context = yield* Layer.build(Network.layer.pipe(
    Layer.provide([
      ChangeBus.layer,
      Layer.mock(ChangeLog)({
        reading: Effect.succeed(undefined),
        hasWaitingWrites: Effect.sync(() => log.hasWaitingWrites),
        readSnapshot: Effect.succeed({
          state: load(timeline, revision, []),
          tag: "tag",
          accepted: undefined,
          unreadable: []
        }),
        readAfter: () => Effect.as(Queue.offer(reads, undefined), nothingNew),
        countTurnover: () => Effect.succeed({ created: mapRowKinds(() => 0), deleted: mapRowKinds(() => 0) })
      }),
      Layer.succeed(ChangeNotifier, {
        runOnChange: (effect) =>
          Effect.sync(() => {
            wake = effect
          })
      }),
      Layer.provide(Events.layer, Layer.mock(EventStore)({})),
      Layer.mock(HighWaterMarkStore)({ read: Effect.succeed(Option.none()), write: () => Effect.void }),
      Layer.succeed(Intervals, productionIntervals)
    ])
  ))
  const network = Context.get(context, Network)
  yield* network.loaded
  return { log, network, reads, wake: Effect.suspend(() => wake) }
})

it.effect("while writes wait, all changes of 50 ms are read at once", () =>
  Effect.gen(function*() {
    const { reads, wake } = yield* start
    yield* wake
    for (let elapsed = 0; elapsed < 49; elapsed += 7) {
      yield* TestClock.adjust("7 millis")
      yield* wake
    }
    assert.strictEqual(yield* Queue.size(reads), 0)
    yield* TestClock.adjust("1 millis")
    assert.strictEqual(yield* Queue.size(reads), 1)
  }))

it.effect("without waiting writes, a change is read at once", () =>
  Effect.gen(function*() {
    const { log, reads, wake } = yield* start
    log.hasWaitingWrites = false
    yield* wake
    yield* Queue.take(reads)
  }))

it.effect("deletions that wait until clients are closed do not make the feed read more often", () =>
  Effect.gen(function*() {
    const { network, reads } = yield* start
    const waiting = yield* Effect.forkChild(Effect.all([network.catchUp, network.catchUp], { concurrency: 2 }))
    yield* TestClock.adjust("49 millis")
    assert.strictEqual(yield* Queue.size(reads), 0)
    yield* TestClock.adjust("1 millis")
    yield* Fiber.join(waiting)
    assert.strictEqual(yield* Queue.size(reads), 1)
  }))
