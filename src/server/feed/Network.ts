/** The network's state in this process. One fiber applies the change log to it and publishes the deltas. */
import { Events } from "#events/Events.ts"
import { keepLastKnown, stillUnreadable } from "#network/unreadableRows.ts"
import { withoutKeys } from "#network/lossDetection.ts"
import { apply, type Change, empty, type NetworkState } from "#network/NetworkState.ts"
import type { Delta } from "#views/delta.ts"
import { deltasOf } from "#views/changeDeltas.ts"
import { Revision, Timeline } from "#schema/ids.ts"
import { ChangeLog, type ChangePage, changePageSize } from "#store/ChangeLog.ts"
import { describeReading } from "#store/networkSnapshot.ts"
import type { UnreadableRow } from "#store/UnreadableRow.ts"
import { StoreUnavailable } from "#store/sql.ts"
import { Intervals } from "#time/Intervals.ts"
import { Context, Deferred, Effect, Exit, Fiber, Layer, Metric, Option, PubSub, Queue, Ref, type Scope } from "effect"
import { ChangeBus } from "./ChangeBus.ts"
import { ChangeNotifier } from "./ChangeNotifier.ts"
import { continuity, type TaggedState } from "./continuity.ts"
import { changeEvents } from "./changeEvents.ts"
import { baselineOfState, type HeldUpdate, LossGuard } from "./LossGuard.ts"
import { persistHighWaterMark } from "./persistHighWaterMark.ts"
import { beginTimeline, readInitialState, readSnapshot } from "./readNetwork.ts"

export class Network extends Context.Service<Network, {
  /** The current state, empty before `loaded`; its revisions have been published to the ChangeBus or are about to be. */
  readonly state: Effect.Effect<NetworkState>
  /** Waits for the first reading of the network, which takes seconds for 100,000 agents. Fails if it cannot be read. */
  readonly loaded: Effect.Effect<void, StoreUnavailable>
  /** The progress as a sentence while the whole network is read, at the start or after a loss of history. */
  readonly reading: Effect.Effect<string | undefined>
  /**
   * Returns when every change that was committed before the call is in the state. Fails if the log cannot be read, or after 8 s,
   * because a reading of a large network takes longer.
   */
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
      const guard = new LossGuard(log, events.publishLocal, yield* Intervals)
      /** Only the writer fiber sets it. While an update is held back: the state before it, without the revoked keys. */
      const current = yield* Ref.make<TaggedState>({ state: empty(unread, Revision.make(0)), tag: null })
      /** Unreadable rows as of the state in `current`. */
      let unreadable: ReadonlyArray<UnreadableRow> = []
      const loaded = yield* Effect.forkScoped(Effect.gen(function*() {
        const initial = yield* readInitialState(guard)
        yield* Ref.set(current, initial)
        unreadable = initial.unreadable
        events.recordReload(initial.state.revision)
      })).pipe(Effect.map(Fiber.join))
      const reading = Effect.map(log.reading, (progress) => progress && describeReading(progress))
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
        makeCatchUp({ log, guard, loaded, current: Ref.get(current), reload, applyPage }),
        notifier,
        log.hasWaitingWrites
      )
      const isComplete = ({ state }: TaggedState) => guard.held === undefined && state.timeline !== unread
      yield* persistHighWaterMark(Effect.map(Ref.get(current), (latest) => isComplete(latest) ? latest : undefined))

      return Network.of({
        state: Effect.map(Ref.get(current), ({ state }) => state),
        loaded,
        reading,
        catchUp: withinTime(catchUp, reading),
        removals: PubSub.subscribe(removals),
        held: Effect.sync(() => Option.fromUndefinedOr(guard.held)),
        unreadable: Effect.sync(() => unreadable),
        accept: makeAccept(log, guard, Ref.get(current), catchUp)
      })
    })
  )
}

/** Name of the timeline before the first reading. */
const unread = Timeline.make("unread")

/** A login with an unknown key waits for so long, and an operator for the effect of a deletion. */
const catchUpTimeout = "8 seconds"

const withinTime = (
  catchUp: Effect.Effect<void, StoreUnavailable>,
  reading: Effect.Effect<string | undefined>
): Effect.Effect<void, StoreUnavailable> =>
  Effect.timeoutOrElse(catchUp, {
    duration: catchUpTimeout,
    orElse: () =>
      Effect.flatMap(
        reading,
        (reason = "the change feed did not catch up within 8 seconds") => Effect.fail(new StoreUnavailable({ reason }))
      )
  })

/** Accepts a held loss. The new timeline makes every node reload. */
const makeAccept = (
  log: ChangeLog["Service"],
  guard: LossGuard,
  current: Effect.Effect<TaggedState>,
  catchUp: Effect.Effect<void, StoreUnavailable>
) =>
  Effect.fn("Network.accept")(function*(timeline: Timeline) {
    if (!(yield* guard.mayAccept(timeline, baselineOfState(yield* current)))) return false
    if (yield* log.acceptLoss(timeline)) return yield* Effect.as(catchUp, true)
    // Another caller accepted the loss first, here or at another node; the result is the same.
    yield* Effect.ignore(catchUp)
    return guard.held === undefined
  })

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
  readonly loaded: Effect.Effect<void, StoreUnavailable>
  readonly current: Effect.Effect<TaggedState>
  readonly reload: () => Effect.Effect<void, StoreUnavailable>
  readonly applyPage: (before: NetworkState, page: ChangePage) => Effect.Effect<void>
}

/** Reads new changes, applies and publishes them, page by page until the log has no more; reloads if the page is not contiguous. */
const makeCatchUp = (
  { applyPage, current, guard, loaded, log, reload }: CatchUpParts
): Effect.Effect<void, StoreUnavailable> => {
  /** Set from the detection of a lost history until the reload of its new timeline begins. */
  let historyLost = false
  /** Set while a page or a resync is being published. Still set at the next run if publishing failed, so that it resyncs. */
  let publishIncomplete = false
  return Effect.gen(function*() {
    // A failed start ends the process, which reports the reason once.
    yield* Effect.catchCause(loaded, () => Effect.never)
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

/**
 * While writes wait, the changes of this time are sent together. Otherwise every write, and so its answer, would wait until
 * the change before it is sent to all clients.
 */
const batchingDelay = "50 millis"

/**
 * Runs `advance` on every signal, one run at a time, and less often while writes wait. Returns an effect that waits for a run
 * that begins after the call.
 */
const startWriter = Effect.fnUntraced(
  function*(
    advance: Effect.Effect<void, StoreUnavailable>,
    notifier: ChangeNotifier["Service"],
    hasWaitingWrites: Effect.Effect<boolean>
  ) {
    const signals = yield* Queue.sliding<void>(1)
    let waiting: Array<Deferred.Deferred<void, StoreUnavailable>> = []
    const stopped = yield* Deferred.make<never, StoreUnavailable>()
    yield* Effect.addFinalizer(() => Deferred.fail(stopped, nodeStopping))

    const writer = Effect.gen(function*() {
      yield* Queue.take(signals)
      if (yield* hasWaitingWrites) yield* Effect.sleep(batchingDelay)
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
      yield* Effect.raceFirst(Deferred.await(deferred), Deferred.await(stopped))
    })
  }
)

/** Changes that can remove a client or an API key; `KeyPut` can replace a key under the same id. */
const removalTags: ReadonlySet<Change["_tag"]> = new Set(
  ["AgentRemoved", "GatewayRemoved", "KeyRemoved", "KeyPut"] as const
)

const expectedError = Exit.findErrorOption<void, StoreUnavailable>

const nodeStopping = new StoreUnavailable({ reason: "this node is stopping" })
const changeLogUnavailable = new StoreUnavailable({ reason: "the change log cannot be read" })

const revisionGauge = Metric.gauge("control_feed_revision", {
  description: "Newest revision in this process's state"
})
const lagGauge = Metric.gauge("control_feed_lag_revisions", {
  description: "Committed revisions that this process has not applied yet"
})
