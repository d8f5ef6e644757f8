/**
 * Holds an update back when the database lacks many rows that were not deleted. Causes are an old backup, a wrong
 * database, or rows deleted past the triggers. Clients keep their views until an operator accepts the loss or the rows return.
 */
import {
  countRows,
  countUndeleted,
  expectedCounts,
  massLosses,
  missingIds,
  type RowIds,
  shortfall,
  zeroCounts
} from "#network/lossDetection.ts"
import type { NetworkState } from "#network/NetworkState.ts"
import type { ControlEvent } from "#schema/events.ts"
import { Revision, type Timeline } from "#schema/ids.ts"
import { type Loss, mapRowKinds } from "#schema/rowKinds.ts"
import type { ChangeLog, ChangePage } from "#store/ChangeLog.ts"
import type { AcceptedPosition } from "#store/logPosition.ts"
import type { Snapshot } from "#store/networkSnapshot.ts"
import type { HighWaterMark } from "#store/HighWaterMark.ts"
import { StoreUnavailable } from "#store/sql.ts"
import { eventLoopTurn } from "#time/eventLoop.ts"
import type { IntervalValues } from "#time/Intervals.ts"
import { Clock, DateTime, Duration, Effect, Metric } from "effect"
import type { KnownPosition, TaggedState } from "./continuity.ts"

/** Mass losses of a snapshot, and the ids of the API keys that were deleted properly. */
interface LossReport {
  readonly losses: ReadonlyArray<Loss>
  readonly revokedKeys: ReadonlySet<string>
}

type Log = ChangeLog["Service"]

/** The known position and rows with which a snapshot is compared. */
export interface Baseline extends KnownPosition {
  readonly findLosses: (read: NetworkState, log: Log) => Effect.Effect<LossReport, StoreUnavailable>
}

/** A held update: the position of the snapshot, the time of the first one, and its losses. */
export interface HeldUpdate {
  readonly timeline: Timeline
  readonly revision: Revision
  readonly since: DateTime.Utc
  readonly losses: ReadonlyArray<Loss>
}

/** The database was read, but the update is held back. Known clients are served as before. */
export class UpdateHeld extends StoreUnavailable {}

/** Compares a snapshot with the ids of the rows of a state. */
export const baselineOfState = ({ state, tag }: TaggedState): Baseline => ({
  timeline: state.timeline,
  revision: state.revision,
  tag,
  findLosses: Effect.fnUntraced(function*(read, log) {
    const known = countRows(state)
    const missing = yield* Effect.all(
      mapRowKinds((kind) => Effect.map(eventLoopTurn, () => missingIds(kind, state, read)))
    )
    // The audit is read only if rows are missing, which is rare.
    if (massLosses(known, countUndeleted(missing, noRowIds)).length === 0) return noLosses
    const deleted = yield* log.readDeletedIds(state.revision)
    return { losses: massLosses(known, countUndeleted(missing, deleted)), revokedKeys: deleted.keys }
  })
})

/** Compares a snapshot with the numbers of rows that an earlier process kept in its high-water mark. */
export const baselineOfMark = ({ revision, rows = zeroCounts, tag, timeline }: HighWaterMark): Baseline => ({
  timeline,
  revision,
  tag,
  findLosses: Effect.fnUntraced(function*(read, log) {
    const expected = expectedCounts(rows, yield* log.countTurnover(revision, read.revision))
    return { ...noLosses, losses: massLosses(expected, shortfall(expected, countRows(read))) }
  })
})

/**
 * Compares a snapshot with the numbers of rows that the audit records, for a process without a high-water mark. Counts only
 * since the last accepted loss, because the audit does not record losses. An unreadable audit does not prevent the start.
 */
export const baselineOfAudit = ({ accepted, state: { timeline } }: Snapshot): Baseline => {
  const since = baselineOfMark({ timeline, revision: accepted?.revision ?? Revision.make(0), tag: null })
  return {
    ...since,
    findLosses: (read, log) =>
      since.findLosses(read, log).pipe(
        Effect.tapError((error) =>
          Effect.logWarning(
            `cannot check for missing rows at the start: ${error.message}; continuing without the check`
          )
        ),
        Effect.orElseSucceed(() => noLosses)
      )
  }
}

const noRowIds: RowIds = mapRowKinds(() => new Set())

const noLosses: LossReport = { losses: [], revokedKeys: new Set() }

/** Pause between two rechecks, as a multiple of the duration of one. */
const recheckPauseFactor = 4n

export class LossGuard {
  /** The held update; undefined while none is held. */
  held: HeldUpdate | undefined
  /** Ids of API keys that were deleted properly; they are revoked even while the update is held back. */
  revokedKeys: ReadonlySet<string> = new Set()
  /** The baseline of the held update, with which every later snapshot is compared; undefined exactly while none is held. */
  baseline: Baseline | undefined
  readonly #log: Log
  readonly #publish: (event: ControlEvent) => void
  /** Monotonic nanoseconds of the last check. */
  #checkedAt = 0n
  /** Monotonic nanoseconds of the start of the recheck in progress; undefined before the first one. */
  #recheckStartedAt: bigint | undefined
  /** Duration of the last recheck. A large network is read more rarely, so that the rechecks take a fifth of the time. */
  #recheckDuration = 0n
  readonly #recheckNanos: bigint
  readonly #unchangedRecheckNanos: bigint

  constructor(
    log: Log,
    publish: (event: ControlEvent) => void,
    { lossRecheckInterval, unchangedLossRecheckInterval }: IntervalValues
  ) {
    this.#log = log
    this.#publish = publish
    this.#recheckNanos = Duration.toNanosUnsafe(lossRecheckInterval)
    this.#unchangedRecheckNanos = Duration.toNanosUnsafe(unchangedLossRecheckInterval)
  }

  /** The losses of a snapshot; none if an operator has accepted them. */
  findLosses(current: Baseline, snapshot: Snapshot): Effect.Effect<LossReport, StoreUnavailable> {
    const baseline = this.baseline ?? current
    return isAccepted(snapshot.accepted, baseline, snapshot.state)
      ? Effect.succeed(noLosses)
      : baseline.findLosses(snapshot.state, this.#log)
  }

  /** Whether an update of this timeline is held back here, or at another node that has read a snapshot earlier than this one. */
  mayAccept(timeline: Timeline, current: Baseline): Effect.Effect<boolean, StoreUnavailable> {
    return Effect.gen({ self: this }, function*() {
      if (this.held !== undefined) return this.held.timeline === timeline
      const snapshot = yield* this.#log.readSnapshot
      return snapshot.state.timeline === timeline && (yield* this.findLosses(current, snapshot)).losses.length > 0
    })
  }

  /** Fails and holds the snapshot back if it has mass losses; otherwise releases a held update. */
  check(current: Baseline, snapshot: Snapshot): Effect.Effect<void, StoreUnavailable> {
    return Effect.gen({ self: this }, function*() {
      const { losses, revokedKeys } = yield* this.findLosses(current, snapshot)
      this.#checkedAt = yield* Clock.monotonicTimeNanos
      if (this.#recheckStartedAt !== undefined) this.#recheckDuration = this.#checkedAt - this.#recheckStartedAt
      this.revokedKeys = revokedKeys
      yield* Metric.update(heldGauge, losses.length === 0 ? 0 : 1)
      if (losses.length === 0) {
        if (this.held !== undefined) {
          yield* Effect.logWarning("sending the held update to the clients now")
          const { revision, timeline } = snapshot.state
          this.#publish({ event: "update.released", data: { timeline, revision } })
        }
        this.held = undefined
        this.baseline = undefined
        return
      }
      const { revision, timeline } = snapshot.state
      this.baseline ??= current
      const isNew = this.held?.timeline !== timeline
      this.held = { timeline, revision, losses, since: this.held?.since ?? (yield* DateTime.now) }
      if (isNew) {
        yield* Effect.logError(`update held back from the clients: ${describe(losses)}; ${remedy}`)
        this.#publish({ event: "update.held", data: { timeline, revision, losses } })
      }
      return yield* this.#heldError(losses)
    })
  }

  /** Fails while an update is held back and no new check is due; a check is due early if an operator accepts the loss. */
  failWhileHeld(page: ChangePage): Effect.Effect<void, StoreUnavailable> {
    return Effect.gen({ self: this }, function*() {
      if (this.held === undefined || this.baseline === undefined) return
      const { losses, revision, timeline } = this.held
      const isSame = page.timeline === timeline && page.newest === revision
      const now = yield* Clock.monotonicTimeNanos
      const pause = isSame ? this.#unchangedRecheckNanos : this.#recheckNanos
      const age = now - this.#checkedAt
      const isRecent = age < pause || age < recheckPauseFactor * this.#recheckDuration
      if (isRecent && !isAccepted(page.accepted, this.baseline, { timeline: page.timeline })) {
        return yield* this.#heldError(losses)
      }
      this.#recheckStartedAt = now
    })
  }

  #heldError(losses: ReadonlyArray<Loss>): UpdateHeld {
    return new UpdateHeld({ reason: `the loss guard holds an update back, because ${describe(losses)}` })
  }
}

/** Whether the acceptance covers the snapshot: same timeline, and the baseline is of another timeline or older. */
function isAccepted(
  accepted: AcceptedPosition,
  baseline: Baseline,
  { timeline }: Pick<NetworkState, "timeline">
): boolean {
  return accepted?.timeline === timeline && (baseline.timeline !== timeline || baseline.revision < accepted.revision)
}

function describe(losses: ReadonlyArray<Loss>): string {
  return losses.map(({ kind, known, missing }) => `${missing} of ${known} ${kind}`).join(", ") +
    " are missing and were not deleted"
}

const remedy = "restore the rows, or accept the loss with `control network accept` or POST /api/network/acceptance"

const heldGauge = Metric.gauge("control_updates_held", {
  description: "1 while the loss guard holds an update back from the clients; otherwise 0"
})
