/** Writes the high-water mark periodically, so that the next start detects a restored backup. */
import { countRows } from "#network/lossDetection.ts"
import type { Revision, Timeline } from "#schema/ids.ts"
import { HighWaterMarkStore } from "#store/HighWaterMark.ts"
import { Effect, Schedule } from "effect"
import type { TaggedState } from "./continuity.ts"

/** A backup restored after a kill can remove, unnoticed, changes that clients received within this time before the kill. */
const persistInterval = "250 millis"

/** Writes the mark every `persistInterval` and at the end of the scope. `current` is undefined while an update is held back. */
export const persistHighWaterMark = Effect.fnUntraced(function*(current: Effect.Effect<TaggedState | undefined>) {
  const store = yield* HighWaterMarkStore
  let writtenRevision: Revision | undefined
  let writtenTimeline: Timeline | undefined
  const persist = Effect.gen(function*() {
    const latest = yield* current
    if (latest === undefined) return
    const { state, tag } = latest
    const { revision, timeline } = state
    if (revision === writtenRevision && timeline === writtenTimeline) return
    yield* store.write({ timeline, revision, tag, rows: countRows(state) })
    writtenRevision = revision
    writtenTimeline = timeline
  })
  yield* Effect.addFinalizer(() => Effect.andThen(persist, Effect.logDebug("shutdown: the high-water mark is written")))
  yield* Effect.forkScoped(Effect.repeat(persist, Schedule.spaced(persistInterval)))
})
