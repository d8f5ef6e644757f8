/** The network as this process knows it. One fiber writes it: what the feed brings is applied here and goes out from here. */
import { Events } from "#events/Events.ts"
import { keepKnown, stillLeftOut } from "#network/unreadableRows.ts"
import { withoutKeys } from "#network/lossDetection.ts"
import { apply, type Change, empty, type NetworkState } from "#network/NetworkState.ts"
import type { Step } from "#views/delta.ts"
import { steps } from "#views/steps.ts"
import { Revision, type Timeline } from "#schema/ids.ts"
import { ChangeLog, type Page, pageSize } from "#store/ChangeLog.ts"
import type { UnreadableRow } from "#store/UnreadableRow.ts"
import { HighWaterMarkStore } from "#store/HighWaterMark.ts"
import { StoreUnavailable } from "#store/sql.ts"
import { Context, Deferred, Effect, Exit, Layer, Metric, Option, PubSub, Queue, Ref, type Scope } from "effect"
import { ChangeBus } from "./ChangeBus.ts"
import { ChangeNotifier } from "./ChangeNotifier.ts"
import { continuity, isBehind, type Seen } from "./continuity.ts"
import { changeEvents } from "./changeEvents.ts"
import { type Held, knownAudit, knownMark, knownState, LossGuard } from "./LossGuard.ts"
import { persistHighWaterMark, type Place } from "./persistHighWaterMark.ts"

export class Network extends Context.Service<Network, {
  /** The state now; every revision in it has been given to the ChangeBus, or is about to be. */
  readonly state: Effect.Effect<NetworkState>
  /** Returns when everything that was committed before the call is in the state. */
  readonly catchUp: Effect.Effect<void, StoreUnavailable>
  /** Wakes whenever a client or a key has left the network, some time after the state says so. */
  readonly removals: Effect.Effect<PubSub.Subscription<void>, never, Scope.Scope>
  /** What the database has and nobody is given, since too much is missing from it. */
  readonly held: Effect.Effect<Option.Option<Held>>
  /** The rows that are there and cannot be read: what was known of them before stays. */
  readonly leftOut: Effect.Effect<ReadonlyArray<UnreadableRow>>
  /** Says that what is missing from this history is meant to be; false unless it is this history that is held back. */
  accept(timeline: Timeline): Effect.Effect<boolean, StoreUnavailable>
}>()("control/feed/Network") {
  static readonly layer = Layer.effect(
    Network,
    Effect.gen(function*() {
      const log = yield* ChangeLog
      const feed = yield* ChangeNotifier
      const bus = yield* ChangeBus
      const events = yield* Events
      const hold = new LossGuard(log)
      const first = yield* firstPlace(hold)
      const current = yield* Ref.make<Place>(first)
      let { leftOut } = first
      events.restart(first.state.revision)
      const removed = yield* PubSub.sliding<void>(1)
      const reload = Effect.fnUntraced(function*() {
        const known = knownState(yield* Ref.get(current))
        const snapshot = yield* readWhole(log, hold.known ?? known)
        const { state: before } = yield* Ref.get(current)
        const state = keepKnown(before, snapshot.state, snapshot.leftOut)
        yield* hold.admit(known, { ...snapshot, state })
        yield* Ref.set(current, { state, tag: snapshot.tag })
        leftOut = snapshot.leftOut
        yield* bus.restart(state)
        events.restart(state.revision)
        yield* PubSub.publish(removed, undefined)
      }, Effect.tapError(() => revoke))

      /** A reading that is held back gives nobody anything, and a key that was revoked meanwhile opens nothing all the same. */
      const revoke = Effect.suspend(() =>
        hold.revoked.size === 0 ? Effect.void : Effect.andThen(
          Ref.update(current, ({ state, tag }) => ({ state: withoutKeys(state, hold.revoked), tag })),
          PubSub.publish(removed, undefined)
        )
      )

      const applyPage = Effect.fnUntraced(function*(before: NetworkState, page: Page) {
        const { after, out } = changedBy(before, page.changes)
        yield* Ref.set(current, { state: { ...after, revision: page.upTo }, tag: page.tag })
        leftOut = stillLeftOut(leftOut, page.changes, page.leftOut)
        yield* bus.publish(page.timeline, out)
        for (const event of changeEvents(page.changes)) events.publish(event)
        if (page.changes.some((change) => removing.has(change._tag))) yield* PubSub.publish(removed, undefined)
        yield* Metric.update(revisionGauge, page.upTo)
        yield* Metric.update(lagGauge, Math.max(0, page.newest - page.upTo))
      })

      const catchUp = yield* oneWriter(advanceBy({ log, hold, current: Ref.get(current), reload, applyPage }), feed)
      yield* persistHighWaterMark(Effect.map(Ref.get(current), (place) => hold.held === undefined ? place : undefined))

      const accept = Effect.fn("Network.accept")(function*(timeline: Timeline) {
        if (!(yield* hold.isToAccept(timeline, knownState(yield* Ref.get(current))))) return false
        if (yield* log.accept(timeline)) return yield* Effect.as(catchUp, true)
        // Somebody was first, here or at another node: then it is as it was wished.
        yield* Effect.ignore(catchUp)
        return hold.held === undefined
      })

      return Network.of({
        state: Effect.map(Ref.get(current), ({ state }) => state),
        catchUp,
        removals: PubSub.subscribe(removed),
        held: Effect.sync(() => Option.fromUndefinedOr(hold.held)),
        leftOut: Effect.sync(() => leftOut),
        accept
      })
    })
  )
}

/** The state after these changes, and what has happened by them for each audience. */
function changedBy(before: NetworkState, changes: ReadonlyArray<Change>) {
  const out: Array<Step> = []
  let after = before
  for (const change of changes) {
    const next = apply(after, change)
    out.push(...steps(after, next, change))
    after = next
  }
  return { after, out }
}

/** What bringing the state up to date is made of. */
interface Parts {
  readonly log: ChangeLog["Service"]
  readonly hold: LossGuard
  readonly current: Effect.Effect<Place>
  readonly reload: () => Effect.Effect<void, StoreUnavailable>
  readonly applyPage: (before: NetworkState, page: Page) => Effect.Effect<void>
}

/** Reads what is new, applies it, and gives it out, page by page until nothing is left. */
const advanceBy = ({ applyPage, current, hold, log, reload }: Parts): Effect.Effect<void, StoreUnavailable> => {
  let isLost = false
  /** What was read last may have been given to some and not to others: something failed in the middle of it. */
  let isTorn = false
  return Effect.gen(function*() {
    while (true) {
      const { state, tag } = yield* current
      const page = yield* log.after(state.revision)
      if (hold.held !== undefined) {
        yield* hold.check(page)
        yield* reload()
        isTorn = false
        return
      }
      const found = continuity(state, tag, page)
      // Once noticed, a loss stays one until it has its timeline, even if the log forgets what gave it away.
      isLost = found === "lost" || isLost && found !== "renamed"
      if (isLost) yield* beginTimeline(log, state)
      if (found === "missed")
        yield* Effect.logWarning("this process was away for too long: reading everything again")
      if (isTorn || isLost || found !== "continued") {
        isTorn = true
        isLost = false
        yield* reload()
        isTorn = false
        return
      }
      isTorn = true
      yield* applyPage(state, page)
      isTorn = false
      if (page.upTo - state.revision < pageSize) return
    }
  })
}

/** Runs `advance` whenever the feed says so, one at a time; gives what waits for a run that begins after the call. */
const oneWriter = Effect.fnUntraced(
  function*(advance: Effect.Effect<void, StoreUnavailable>, feed: ChangeNotifier["Service"]) {
    const wakeUps = yield* Queue.sliding<void>(1)
    let waiting: Array<Deferred.Deferred<void, StoreUnavailable>> = []

    const writer = Effect.gen(function*() {
      yield* Queue.take(wakeUps)
      const answered = waiting
      waiting = []
      const exit = yield* Effect.exit(advance)
      if (Exit.isFailure(exit))
        yield* Effect.logWarning("this process is not up to date; trying again", exit.cause)
      const answer = Exit.isSuccess(exit) ? Exit.void : Exit.fail(Option.getOrElse(foreseen(exit), () => unavailable))
      yield* Effect.forEach(answered, (deferred) => Deferred.done(deferred, answer), { discard: true })
    })

    const wake = Effect.asVoid(Queue.offer(wakeUps, undefined))
    yield* Effect.forkScoped(Effect.forever(writer))
    yield* feed.follow(wake)

    return Effect.gen(function*() {
      const deferred = yield* Deferred.make<void, StoreUnavailable>()
      waiting.push(deferred)
      yield* wake
      yield* Deferred.await(deferred)
    })
  }
)

/** The history is not continued where it was left: its clients must not take what comes for a continuation. */
const beginTimeline = Effect.fnUntraced(function*(
  log: ChangeLog["Service"],
  { revision, timeline }: Pick<NetworkState, "revision" | "timeline">
) {
  yield* Metric.update(lostTimelines, 1)
  yield* Effect.logError(
    `the database does not have what it had at revision ${revision}: it was restored, or has lost its last changes. ` +
      "Every client gets its whole view anew, as the database has it now"
  )
  yield* log.beginTimeline(timeline)
})

/** What the database has, on a timeline of its own if it is behind what was seen of the history of this name. */
const readWhole = Effect.fnUntraced(function*(log: ChangeLog["Service"], seen: Seen) {
  const snapshot = yield* log.snapshot
  if (snapshot.state.timeline !== seen.timeline) return snapshot
  if (!isBehind(snapshot, seen, yield* log.tagAt(seen.revision))) return snapshot
  yield* beginTimeline(log, seen)
  return yield* log.snapshot
})

/**
 * What the database has, on a timeline of its own if it is behind what this process had seen before it was started. Nothing
 * yet, if it is held back: then nobody is let in until it is mended or accepted.
 */
const firstPlace = Effect.fnUntraced(function*(hold: LossGuard) {
  const log = yield* ChangeLog
  const mark = Option.getOrUndefined(yield* (yield* HighWaterMarkStore).kept)
  const read = yield* mark === undefined ? log.snapshot : readWhole(log, mark)
  const known = mark === undefined ? knownAudit(read) : knownMark(mark)
  // What could not be judged is not taken for harmless.
  yield* hold.admit(known, read).pipe(
    Effect.catchTag("StoreUnavailable", (error) => hold.held === undefined ? Effect.fail(error) : Effect.void)
  )
  return hold.held === undefined ? read : { ...read, state: empty(read.state.timeline, Revision.make(0)), tag: null }
})

/** A key that is put may take the place of another under the same id. */
const removing: ReadonlySet<Change["_tag"]> = new Set(
  ["AgentRemoved", "GatewayRemoved", "KeyRemoved", "KeyPut"] as const
)

const foreseen = Exit.findErrorOption<void, StoreUnavailable>

const unavailable = new StoreUnavailable({ reason: "the log of changes cannot be read" })

const revisionGauge = Metric.gauge("control_feed_revision", {
  description: "The newest revision that this process knows"
})
const lagGauge = Metric.gauge("control_feed_lag_revisions", {
  description: "Committed revisions that this process has read of but not yet applied"
})
const lostTimelines = Metric.counter("control_timelines_lost_total", {
  description: "How often the database turned out to have lost changes that this process had seen",
  incremental: true
})
