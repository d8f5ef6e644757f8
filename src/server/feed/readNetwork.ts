/** Reads the whole network, at the start and when the change log does not continue the state. */
import { empty, type NetworkState } from "#network/NetworkState.ts"
import { Revision } from "#schema/ids.ts"
import { ChangeLog } from "#store/ChangeLog.ts"
import { HighWaterMarkStore } from "#store/HighWaterMark.ts"
import { Effect, Metric, Option, Schedule } from "effect"
import { isBehind, type KnownPosition } from "./continuity.ts"
import { baselineOfAudit, baselineOfMark, type LossGuard } from "./LossGuard.ts"

/** Starts a new timeline after a loss of history, because clients must not take its changes for a continuation. */
export const beginTimeline = Effect.fnUntraced(function*(
  log: ChangeLog["Service"],
  { revision, timeline }: Pick<NetworkState, "revision" | "timeline">
) {
  yield* Metric.update(lostTimelines, 1)
  yield* Effect.logError(
    `the database no longer has revision ${revision}, for example after a restore of an older backup; ` +
      "starting a new timeline and sending every client a config"
  )
  yield* log.startTimeline(timeline)
})

/** Reads a snapshot. Starts a new timeline first if the database is behind the known position of the same timeline. */
export const readSnapshot = Effect.fnUntraced(function*(log: ChangeLog["Service"], known: KnownPosition) {
  const snapshot = yield* log.readSnapshot
  if (snapshot.state.timeline !== known.timeline) return snapshot
  if (!isBehind(snapshot, known, yield* log.readTag(known.revision))) return snapshot
  yield* beginTimeline(log, known)
  return yield* log.readSnapshot
})

/** Pause before another attempt, and the number of further attempts. Then the process exits, and its supervisor restarts it. */
const rereadSchedule = Schedule.max([Schedule.spaced("1 second"), Schedule.recurs(4)])

/**
 * Reads the state at the start. Starts a new timeline first if the database is behind the high-water mark. While the snapshot is
 * held back the state is empty, so no client can connect until the rows return or an operator accepts the loss. An interrupted
 * reading begins again.
 */
export const readInitialState = Effect.fnUntraced(function*(guard: LossGuard) {
  const log = yield* ChangeLog
  const mark = Option.getOrUndefined(yield* (yield* HighWaterMarkStore).read)
  const snapshot = yield* mark === undefined ? log.readSnapshot : readSnapshot(log, mark)
  const baseline = mark === undefined ? baselineOfAudit(snapshot) : baselineOfMark(mark)
  // A check that itself fails prevents the start, because the snapshot may have losses.
  yield* guard.check(baseline, snapshot).pipe(
    Effect.catchTag("StoreUnavailable", (error) => guard.held === undefined ? Effect.fail(error) : Effect.void)
  )
  return guard.held === undefined
    ? snapshot
    : { ...snapshot, state: empty(snapshot.state.timeline, Revision.make(0)), tag: null }
}, (reading) =>
  reading.pipe(
    Effect.tapError(({ message }) => Effect.logWarning(`reading the network was interrupted: ${message}`)),
    Effect.retry(rereadSchedule)
  ))

const lostTimelines = Metric.counter("control_timelines_lost_total", {
  description: "Losses of history: the database lacked changes that this process had read",
  incremental: true
})
