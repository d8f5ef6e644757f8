/** Keeps outside the database how far this process has seen the history, so that its next start knows a restored backup. */
import { countsOf } from "#network/lossDetection.ts"
import type { Revision, Timeline } from "#schema/ids.ts"
import type { Snapshot } from "#store/ChangeLog.ts"
import { HighWaterMarkStore } from "#store/HighWaterMark.ts"
import { Effect, Schedule } from "effect"

/** What is known, and the tag of the change that made it so. */
export type Place = Pick<Snapshot, "state" | "tag">

/** A change that is told within this time of a kill is one that a restored backup can take away unseen. */
const keepMarkEvery = "250 millis"

/** `current` gives nothing while what the database has is not to be kept. */
export const persistHighWaterMark = Effect.fnUntraced(function*(current: Effect.Effect<Place | undefined>) {
  const highWater = yield* HighWaterMarkStore
  let kept: Revision | undefined
  let keptOf: Timeline | undefined
  const keep = Effect.gen(function*() {
    const place = yield* current
    if (place === undefined) return
    const { state, tag } = place
    const { revision, timeline } = state
    if (revision === kept && timeline === keptOf) return
    yield* highWater.keep({ timeline, revision, tag, rows: countsOf(state) })
    kept = revision
    keptOf = timeline
  })
  yield* Effect.addFinalizer(() => keep)
  yield* Effect.forkScoped(Effect.repeat(keep, Schedule.spaced(keepMarkEvery)))
})
