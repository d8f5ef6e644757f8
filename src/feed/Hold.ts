/**
 * Holds back what was read when much is missing from it that nobody deleted: an older backup, the wrong database, a table
 * emptied past the triggers. Clients keep what they have until an operator says that it is meant, or it is mended.
 */
import { countsOf, fewerThan, massive, missingFrom, none } from "#network/losses.ts"
import type { NetworkState } from "#network/NetworkState.ts"
import type { Revision, Timeline } from "#schema/ids.ts"
import type { Loss, RowCounts } from "#schema/rows.ts"
import type { Accepted, ChangeLog, Page, Snapshot } from "#store/ChangeLog.ts"
import type { Mark } from "#store/HighWater.ts"
import { StoreUnavailable } from "#store/sql.ts"
import { Clock, DateTime, Duration, Effect, Metric } from "effect"

/** What was known before, as far as a reading is judged by it. */
interface Known {
  readonly timeline: Timeline
  readonly revision: Revision
  readonly counts: RowCounts
  readonly missingIn: (state: NetworkState) => RowCounts
}

/** What is held back: the reading at this place in the history, and what is missing from it. */
export interface Held {
  readonly timeline: Timeline
  readonly revision: Revision
  readonly since: DateTime.Utc
  readonly losses: ReadonlyArray<Loss>
}

export const knownState = (state: NetworkState): Known => ({
  timeline: state.timeline,
  revision: state.revision,
  counts: countsOf(state),
  missingIn: (read) => missingFrom(state, read)
})

/** Of a process that ran before only the numbers are known. */
export const knownMark = ({ revision, rows = none, timeline }: Mark): Known => ({
  timeline,
  revision,
  counts: rows,
  missingIn: (read) => fewerThan(rows, countsOf(read))
})

/** How long a reading that is held back stands before it is read whole again. */
const judgedAnewAfter = Duration.toNanosUnsafe("2 seconds")

export class Hold {
  /** What is held back now. */
  held: Held | undefined
  /** What was read and held back, if no more keys are missing from it than were deleted: then those were revoked. */
  keysInForce: NetworkState | undefined
  readonly #log: ChangeLog["Service"]
  /** What every reading is judged by as long as one is held back. */
  #known: Known | undefined
  #judgedAt = 0n

  constructor(log: ChangeLog["Service"]) {
    this.#log = log
  }

  /** Fails, and holds the reading back, when it must not be given to anybody. */
  admit(before: Known, read: Snapshot): Effect.Effect<void, StoreUnavailable> {
    return Effect.gen({ self: this }, function*() {
      const known = this.#known ?? before
      const losses = isAccepted(read.accepted, known, read.state) ? [] : yield* this.#lossesOf(known, read.state)
      this.#judgedAt = yield* Clock.monotonicTimeNanos
      yield* Metric.update(heldGauge, losses.length === 0 ? 0 : 1)
      if (losses.length === 0) {
        if (this.held !== undefined) yield* Effect.logWarning("what was held back is given to the clients now")
        this.held = undefined
        this.keysInForce = undefined
        this.#known = undefined
        return
      }
      const { revision, timeline } = read.state
      this.#known = known
      const isNew = this.held?.timeline !== timeline
      this.held = { timeline, revision, losses, since: this.held?.since ?? (yield* DateTime.now) }
      if (isNew) yield* Effect.logError(`nothing is given to the clients: ${sentence(losses)}. ${advice}`)
      return yield* this.#refusal(losses)
    })
  }

  /** Fails as long as what the log says is still the reading that is held back. */
  check(page: Page): Effect.Effect<void, StoreUnavailable> {
    return Effect.gen({ self: this }, function*() {
      if (this.held === undefined || this.#known === undefined) return
      const { losses, revision, timeline } = this.held
      const isSame = page.timeline === timeline && page.newest === revision
      const isYoung = (yield* Clock.monotonicTimeNanos) - this.#judgedAt < judgedAnewAfter
      if ((isSame || isYoung) && !isAccepted(page.accepted, this.#known, { timeline: page.timeline })) {
        return yield* this.#refusal(losses)
      }
    })
  }

  #lossesOf(known: Known, read: NetworkState): Effect.Effect<ReadonlyArray<Loss>, StoreUnavailable> {
    const missing = known.missingIn(read)
    // Nearly always nothing is: then nobody is asked what was deleted.
    if (massive(known.counts, missing, none).length === 0) return Effect.succeed([])
    return Effect.map(this.#log.deletedSince(known.revision), (deleted) => {
      this.keysInForce = missing.keys <= deleted.keys ? read : undefined
      return massive(known.counts, missing, deleted)
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
