/**
 * Holds back what was read when much is missing from it that nobody deleted: an older backup, the wrong database, a table
 * emptied past the triggers. Clients keep what they have until an operator says that it is meant, or it is mended.
 */
import {
  countsOf,
  expectedAfter,
  fewerThan,
  massive,
  missingFrom,
  none,
  notDeleted,
  type RowIds
} from "#network/lossDetection.ts"
import type { NetworkState } from "#network/NetworkState.ts"
import { Revision, type Timeline } from "#schema/ids.ts"
import { type Loss, ofEach } from "#schema/rowKinds.ts"
import type { Accepted, ChangeLog, Page, Snapshot } from "#store/ChangeLog.ts"
import type { HighWaterMark } from "#store/HighWaterMark.ts"
import { StoreUnavailable } from "#store/sql.ts"
import { Clock, DateTime, Duration, Effect, Metric } from "effect"
import type { Seen } from "./continuity.ts"
import type { Place } from "./persistHighWaterMark.ts"

/** What is missing from a reading and was not deleted, and the keys among what was. */
interface Judgement {
  readonly losses: ReadonlyArray<Loss>
  readonly revoked: ReadonlySet<string>
}

type Log = ChangeLog["Service"]

/** What was known before, as far as a reading is judged by it. */
export interface Known extends Seen {
  readonly judge: (read: NetworkState, log: Log) => Effect.Effect<Judgement, StoreUnavailable>
}

/** What is held back: the reading at this place in the history, and what is missing from it. */
export interface Held {
  readonly timeline: Timeline
  readonly revision: Revision
  readonly since: DateTime.Utc
  readonly losses: ReadonlyArray<Loss>
}

export const knownState = ({ state, tag }: Place): Known => ({
  timeline: state.timeline,
  revision: state.revision,
  tag,
  judge: Effect.fnUntraced(function*(read, log) {
    const known = countsOf(state)
    const missing = missingFrom(state, read)
    // Nearly always nothing is: then nobody is asked what was deleted.
    if (massive(known, notDeleted(missing, noIds)).length === 0) return nothing
    const deleted = yield* log.deletedSince(state.revision)
    return { losses: massive(known, notDeleted(missing, deleted)), revoked: deleted.keys }
  })
})

/** Of a process that ran before only the numbers are known. */
export const knownMark = ({ revision, rows = none, tag, timeline }: HighWaterMark): Known => ({
  timeline,
  revision,
  tag,
  judge: Effect.fnUntraced(function*(read, log) {
    const expected = expectedAfter(rows, yield* log.turnover(revision, read.revision))
    return { ...nothing, losses: massive(expected, fewerThan(expected, countsOf(read))) }
  })
})

/**
 * A process that has no mark knows what the audit says was created and not deleted; since the last acceptance only, for it
 * does not say what was missing by then. That the audit cannot be read keeps nobody from starting.
 */
export const knownAudit = ({ accepted, state: { timeline } }: Snapshot): Known => {
  const since = knownMark({ timeline, revision: accepted?.revision ?? Revision.make(0), tag: null })
  return {
    ...since,
    judge: (read, log) =>
      since.judge(read, log).pipe(
        Effect.tapError((error) => Effect.logWarning(`what may be missing was not counted: ${error.message}`)),
        Effect.orElseSucceed(() => nothing)
      )
  }
}

const noIds: RowIds = ofEach(() => new Set())

const nothing: Judgement = { losses: [], revoked: new Set() }

/** How long a reading that is held back stands before it is read whole again, when the log has gone on. */
const judgedAnewAfter = Duration.toNanosUnsafe("2 seconds")

/** The same when the log is as it was: what went past the triggers may come back past them. */
const looksAgainAfter = Duration.toNanosUnsafe("10 seconds")

export class LossGuard {
  /** What is held back now. */
  held: Held | undefined
  /** The keys that were deleted since, which open nothing although everything else is held back. */
  revoked: ReadonlySet<string> = new Set()
  /** What every reading is judged by as long as one is held back. */
  known: Known | undefined
  readonly #log: Log
  #judgedAt = 0n

  constructor(log: Log) {
    this.#log = log
  }

  /** What keeps a reading from being given to anybody, by what is known. */
  judge(before: Known, read: Snapshot): Effect.Effect<Judgement, StoreUnavailable> {
    const known = this.known ?? before
    return isAccepted(read.accepted, known, read.state) ? Effect.succeed(nothing) : known.judge(read.state, this.#log)
  }

  /** Whether the history of this name is held back, here or at another node: that one may have read what this one has not. */
  isToAccept(timeline: Timeline, before: Known): Effect.Effect<boolean, StoreUnavailable> {
    return Effect.gen({ self: this }, function*() {
      if (this.held !== undefined) return this.held.timeline === timeline
      const read = yield* this.#log.snapshot
      return read.state.timeline === timeline && (yield* this.judge(before, read)).losses.length > 0
    })
  }

  /** Fails, and holds the reading back, when it must not be given to anybody. */
  admit(before: Known, read: Snapshot): Effect.Effect<void, StoreUnavailable> {
    return Effect.gen({ self: this }, function*() {
      const { losses, revoked } = yield* this.judge(before, read)
      this.#judgedAt = yield* Clock.monotonicTimeNanos
      this.revoked = revoked
      yield* Metric.update(heldGauge, losses.length === 0 ? 0 : 1)
      if (losses.length === 0) {
        if (this.held !== undefined) yield* Effect.logWarning("what was held back is given to the clients now")
        this.held = undefined
        this.known = undefined
        return
      }
      const { revision, timeline } = read.state
      this.known ??= before
      const isNew = this.held?.timeline !== timeline
      this.held = { timeline, revision, losses, since: this.held?.since ?? (yield* DateTime.now) }
      if (isNew) yield* Effect.logError(`nothing is given to the clients: ${sentence(losses)}. ${advice}`)
      return yield* this.#refusal(losses)
    })
  }

  /** Fails as long as what the log says is still the reading that is held back, and that is not old. */
  check(page: Page): Effect.Effect<void, StoreUnavailable> {
    return Effect.gen({ self: this }, function*() {
      if (this.held === undefined || this.known === undefined) return
      const { losses, revision, timeline } = this.held
      const isSame = page.timeline === timeline && page.newest === revision
      const age = (yield* Clock.monotonicTimeNanos) - this.#judgedAt
      const isYoung = age < (isSame ? looksAgainAfter : judgedAnewAfter)
      if (isYoung && !isAccepted(page.accepted, this.known, { timeline: page.timeline })) {
        return yield* this.#refusal(losses)
      }
    })
  }

  #refusal(losses: ReadonlyArray<Loss>): StoreUnavailable {
    return new StoreUnavailable({ reason: `what it has is held back: ${sentence(losses)}` })
  }
}

/** What was accepted in this history counts for whoever comes from another one, or from before that place. */
function isAccepted(accepted: Accepted, known: Known, { timeline }: Pick<NetworkState, "timeline">): boolean {
  return accepted?.timeline === timeline && (known.timeline !== timeline || known.revision < accepted.revision)
}

function sentence(losses: ReadonlyArray<Loss>): string {
  return losses.map(({ kind, known, missing }) => `${missing} of ${known} ${kind}`).join(", ") +
    " are missing and were not deleted"
}

const advice = "Mend the database, or say that it is meant: POST /api/network/acceptance, or `control network accept`"

const heldGauge = Metric.gauge("control_push_held", {
  description: "1 while what the database has is held back from the clients, since too much is missing from it"
})
