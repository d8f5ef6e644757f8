/** The network's state in this process. One fiber applies the change log to it and publishes the deltas. */
import { Events } from "#events/Events.ts"
import { keepLastKnown, stillUnreadable } from "#network/unreadableRows.ts"
import { withoutKeys } from "#network/lossDetection.ts"
import { apply, type Change, empty, type NetworkState } from "#network/NetworkState.ts"
import type { Delta } from "#views/delta.ts"
import { deltasOf } from "#views/changeDeltas.ts"
import { Revision, type Timeline } from "#schema/ids.ts"
import { ChangeLog, type ChangePage, changePageSize } from "#store/ChangeLog.ts"
import type { UnreadableRow } from "#store/UnreadableRow.ts"
import { HighWaterMarkStore } from "#store/HighWaterMark.ts"
import { StoreUnavailable } from "#store/sql.ts"
import { Intervals } from "#time/Intervals.ts"
import { Context, Deferred, Effect, Exit, Layer, Metric, Option, PubSub, Queue, Ref, type Scope } from "effect"
import { ChangeBus } from "./ChangeBus.ts"
import { ChangeNotifier } from "./ChangeNotifier.ts"
import { continuity, isBehind, type KnownPosition, type TaggedState } from "./continuity.ts"
import { changeEvents } from "./changeEvents.ts"
import { baselineOfAudit, baselineOfMark, baselineOfState, type HeldUpdate, LossGuard } from "./LossGuard.ts"
import { persistHighWaterMark } from "./persistHighWaterMark.ts"

export class Network extends Context.Service<Network, {
  /** The current state; its revisions have been published to the ChangeBus or are about to be. */
  readonly state: Effect.Effect<NetworkState>
  /** Returns when every change that was committed before the call is in the state. Fails if the log cannot be read. */
  readonly catchUp: Effect.Effect<void, StoreUnavailable>
  /** Signals each removal of a client or an API key, after the state contains it. */
  readonly removals: Effect.Effect<PubSub.Subscription<void>, never, Scope.Scope>
  /** The update that the loss guard holds back, if any. */
  readonly held: Effect.Effect<Option.Option<HeldUpdate>>
  /** Unreadable rows; the state keeps the last readable version of each. */
  readonly unreadable: Effect.Effect<ReadonlyArray<UnreadableRow>>
  /** Accepts the held loss of this timeline; false if no update of this timeline is held back. */
  accept(timeline: Timeline): Effect.Effect<boolean, StoreUnavailable>
}>()("control/feed/Network") {
  static readonly layer = Layer.effect(
    Network,
    Effect.gen(function*() {
      const log = yield* ChangeLog
      const notifier = yield* ChangeNotifier
      const bus = yield* ChangeBus
      const events = yield* Events
      const guard = new LossGuard(log, yield* Intervals)
      const initial = yield* readInitialState(guard)
      /** Only the writer fiber sets it. While an update is held back: the state before it, without the revoked keys. */
      const current = yield* Ref.make<TaggedState>(initial)
      /** Unreadable rows as of the state in `current`. */
      let { unreadable } = initial
      events.recordReload(initial.state.revision)
      const removals = yield* PubSub.sliding<void>(1)
      const reload = Effect.fnUntraced(function*() {
        const baseline = baselineOfState(yield* Ref.get(current))
        const snapshot = yield* readSnapshot(log, guard.baseline ?? baseline)
        const { state: before } = yield* Ref.get(current)
        const state = keepLastKnown(before, snapshot.state, snapshot.unreadable)
        yield* guard.check(baseline, { ...snapshot, state })
        yield* Ref.set(current, { state, tag: snapshot.tag })
        unreadable = snapshot.unreadable
        yield* bus.publishResync(state)
        events.recordReload(state.revision)
        yield* PubSub.publish(removals, undefined)
      }, Effect.tapError(() => revoke))

      /** Revokes deleted API keys although the rest of the update is held back. */
      const revoke = Effect.suspend(() =>
        guard.revokedKeys.size === 0 ? Effect.void : Effect.andThen(
          Ref.update(current, ({ state, tag }) => ({ state: withoutKeys(state, guard.revokedKeys), tag })),
          PubSub.publish(removals, undefined)
        )
      )

      const applyPage = Effect.fnUntraced(function*(before: NetworkState, page: ChangePage) {
        const { after, deltas } = applyChanges(before, page.changes)
        yield* Ref.set(current, { state: { ...after, revision: page.upTo }, tag: page.tag })
        unreadable = stillUnreadable(unreadable, page.changes, page.unreadable)
        yield* bus.publish(page.timeline, deltas)
        for (const event of changeEvents(page.changes)) events.publishLocal(event)
        if (page.changes.some((change) => removalTags.has(change._tag))) yield* PubSub.publish(removals, undefined)
        yield* Metric.update(revisionGauge, page.upTo)
        yield* Metric.update(lagGauge, Math.max(0, page.newest - page.upTo))
      })

      const catchUp = yield* startWriter(
        makeCatchUp({ log, guard, current: Ref.get(current), reload, applyPage }),
        notifier
      )
      yield* persistHighWaterMark(
        Effect.map(Ref.get(current), (latest) => guard.held === undefined ? latest : undefined)
      )

      const accept = Effect.fn("Network.accept")(function*(timeline: Timeline) {
        if (!(yield* guard.mayAccept(timeline, baselineOfState(yield* Ref.get(current))))) return false
        if (yield* log.acceptLoss(timeline)) return yield* Effect.as(catchUp, true)
        // Another caller accepted the loss first, here or at another node; the result is the same.
        yield* Effect.ignore(catchUp)
        return guard.held === undefined
      })

      return Network.of({
        state: Effect.map(Ref.get(current), ({ state }) => state),
        catchUp,
        removals: PubSub.subscribe(removals),
        held: Effect.sync(() => Option.fromUndefinedOr(guard.held)),
        unreadable: Effect.sync(() => unreadable),
        accept
      })
    })
  )
}

/** The state after these changes, and their deltas in order of revision. */
function applyChanges(before: NetworkState, changes: ReadonlyArray<Change>) {
  const deltas: Array<Delta> = []
  let after = before
  for (const change of changes) {
    const next = apply(after, change)
    deltas.push(...deltasOf(after, next, change))
    after = next
  }
  return { after, deltas }
}

/** Dependencies of `makeCatchUp`. */
interface CatchUpParts {
  readonly log: ChangeLog["Service"]
  readonly guard: LossGuard
  readonly current: Effect.Effect<TaggedState>
  readonly reload: () => Effect.Effect<void, StoreUnavailable>
  readonly applyPage: (before: NetworkState, page: ChangePage) => Effect.Effect<void>
}

/** Reads new changes, applies and publishes them, page by page until the log has no more; reloads if the page is not contiguous. */
const makeCatchUp = (
  { applyPage, current, guard, log, reload }: CatchUpParts
): Effect.Effect<void, StoreUnavailable> => {
  /** Set from the detection of a lost history until the reload of its new timeline begins. */
  let historyLost = false
  /** Set while a page or a resync is being published. Still set at the next run if publishing failed, so that it resyncs. */
  let publishIncomplete = false
  return Effect.gen(function*() {
    while (true) {
      const { state, tag } = yield* current
      const page = yield* log.readAfter(state.revision)
      if (guard.held !== undefined) {
        yield* guard.failWhileHeld(page)
        yield* reload()
        publishIncomplete = false
        return
      }
      const found = continuity(state, tag, page)
      // A detected loss must get a new timeline, even if later changes hide the evidence from the next page.
      historyLost = found === "historyLost" || historyLost && found !== "timelineChanged"
      if (historyLost) yield* beginTimeline(log, state)
      if (found === "compacted") {
        yield* Effect.logWarning(
          `the change log no longer reaches back to revision ${state.revision}; reloading the whole network`
        )
      }
      if (publishIncomplete || historyLost || found !== "contiguous") {
        publishIncomplete = true
        historyLost = false
        yield* reload()
        publishIncomplete = false
        return
      }
      publishIncomplete = true
      yield* applyPage(state, page)
      publishIncomplete = false
      if (page.upTo - state.revision < changePageSize) return
    }
  })
}

/** Runs `advance` on every signal, one run at a time. Returns an effect that waits for a run that begins after the call. */
const startWriter = Effect.fnUntraced(
  function*(advance: Effect.Effect<void, StoreUnavailable>, notifier: ChangeNotifier["Service"]) {
    const signals = yield* Queue.sliding<void>(1)
    let waiting: Array<Deferred.Deferred<void, StoreUnavailable>> = []

    const writer = Effect.gen(function*() {
      yield* Queue.take(signals)
      const served = waiting
      waiting = []
      const exit = yield* Effect.exit(advance)
      if (Exit.isFailure(exit))
        yield* Effect.logWarning("cannot catch up with the changes in the database; retrying", exit.cause)
      const result = Exit.isSuccess(exit)
        ? Exit.void
        : Exit.fail(Option.getOrElse(expectedError(exit), () => changeLogUnavailable))
      yield* Effect.forEach(served, (deferred) => Deferred.done(deferred, result), { discard: true })
    })

    const wake = Effect.asVoid(Queue.offer(signals, undefined))
    yield* Effect.forkScoped(Effect.forever(writer))
    yield* notifier.runOnChange(wake)

    return Effect.gen(function*() {
      const deferred = yield* Deferred.make<void, StoreUnavailable>()
      waiting.push(deferred)
      yield* wake
      yield* Deferred.await(deferred)
    })
  }
)

/** Starts a new timeline after a loss of history, because clients must not take its changes for a continuation. */
const beginTimeline = Effect.fnUntraced(function*(
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
const readSnapshot = Effect.fnUntraced(function*(log: ChangeLog["Service"], known: KnownPosition) {
  const snapshot = yield* log.readSnapshot
  if (snapshot.state.timeline !== known.timeline) return snapshot
  if (!isBehind(snapshot, known, yield* log.readTag(known.revision))) return snapshot
  yield* beginTimeline(log, known)
  return yield* log.readSnapshot
})

/**
 * Reads the state at the start. Starts a new timeline first if the database is behind the high-water mark. While the snapshot is
 * held back the state is empty, so no client can connect until the rows return or an operator accepts the loss.
 */
const readInitialState = Effect.fnUntraced(function*(guard: LossGuard) {
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
})

/** Changes that can remove a client or an API key; `KeyPut` can replace a key under the same id. */
const removalTags: ReadonlySet<Change["_tag"]> = new Set(
  ["AgentRemoved", "GatewayRemoved", "KeyRemoved", "KeyPut"] as const
)

const expectedError = Exit.findErrorOption<void, StoreUnavailable>

const changeLogUnavailable = new StoreUnavailable({ reason: "the change log cannot be read" })

const revisionGauge = Metric.gauge("control_feed_revision", {
  description: "Newest revision in this process's state"
})
const lagGauge = Metric.gauge("control_feed_lag_revisions", {
  description: "Committed revisions that this process has not applied yet"
})
const lostTimelines = Metric.counter("control_timelines_lost_total", {
  description: "Losses of history: the database lacked changes that this process had read",
  incremental: true
})
