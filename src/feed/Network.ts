/** The network as this process knows it. One fiber writes it: what the feed brings is applied here and goes out from here. */
import { Events } from "#events/Events.ts"
import { apply, type Change, type NetworkState } from "#network/NetworkState.ts"
import { type Step, steps } from "#network/step.ts"
import type { Revision, Timeline } from "#schema/ids.ts"
import { ChangeLog, type Page, pageSize, type Snapshot } from "#store/ChangeLog.ts"
import { HighWater } from "#store/HighWater.ts"
import { StoreUnavailable } from "#store/sql.ts"
import {
  Context,
  Deferred,
  Effect,
  Exit,
  Layer,
  Metric,
  Option,
  PubSub,
  Queue,
  Ref,
  Schedule,
  type Scope
} from "effect"
import { ChangeBus } from "./ChangeBus.ts"
import { ChangeFeed } from "./ChangeFeed.ts"
import { continuity, isBehind } from "./continuity.ts"
import { happenings } from "./happenings.ts"

export class Network extends Context.Service<Network, {
  /** The state now; every revision in it has been given to the ChangeBus, or is about to be. */
  readonly state: Effect.Effect<NetworkState>
  /** Returns when everything that was committed before the call is in the state. */
  readonly catchUp: Effect.Effect<void, StoreUnavailable>
  /** Wakes whenever a client or a key has left the network, some time after the state says so. */
  readonly removals: Effect.Effect<PubSub.Subscription<void>, never, Scope.Scope>
}>()("control/feed/Network") {
  static readonly layer = Layer.effect(
    Network,
    Effect.gen(function*() {
      const log = yield* ChangeLog
      const feed = yield* ChangeFeed
      const bus = yield* ChangeBus
      const events = yield* Events
      const first = yield* firstSnapshot
      const current = yield* Ref.make(first)
      events.restart(first.state.revision)
      const removed = yield* PubSub.sliding<void>(1)
      let isLost = false

      const reload = Effect.fnUntraced(function*() {
        const snapshot = yield* log.snapshot
        yield* Ref.set(current, snapshot)
        yield* bus.restart(snapshot.state)
        events.restart(snapshot.state.revision)
        yield* PubSub.publish(removed, undefined)
      })

      const applyPage = Effect.fnUntraced(function*(before: NetworkState, page: Page) {
        const out: Array<Step> = []
        let after = before
        for (const change of page.changes) {
          const next = apply(after, change)
          out.push(...steps(after, next, change))
          after = next
        }
        yield* Ref.set(current, { state: { ...after, revision: page.upTo }, tag: page.tag })
        yield* bus.publish(page.timeline, out)
        for (const event of happenings(page.changes)) events.publish(event)
        if (page.changes.some((change) => removing.has(change._tag))) yield* PubSub.publish(removed, undefined)
        yield* Metric.update(revisionGauge, page.upTo)
        yield* Metric.update(lagGauge, Math.max(0, page.newest - page.upTo))
      })

      /** Reads what is new, applies it, and gives it out, page by page until nothing is left. */
      const advance = Effect.gen(function*() {
        while (true) {
          const { state, tag } = yield* Ref.get(current)
          const page = yield* log.after(state.revision)
          const found = continuity(state, tag, page)
          // Once noticed, a loss stays one until it has its timeline, even if the log forgets what gave it away.
          isLost = found === "lost" || isLost && found !== "renamed"
          if (isLost) yield* beginTimeline(log, state)
          if (found === "missed")
            yield* Effect.logWarning("this process was away for too long: reading everything again")
          if (isLost || found !== "continued") {
            isLost = false
            return yield* reload()
          }
          yield* applyPage(state, page)
          if (page.upTo - state.revision < pageSize) return
        }
      })

      const catchUp = yield* oneWriter(advance, feed)
      yield* keepMark(Ref.get(current))

      return Network.of({
        state: Effect.map(Ref.get(current), ({ state }) => state),
        catchUp,
        removals: PubSub.subscribe(removed)
      })
    })
  )
}

/** Runs `advance` whenever the feed says so, one at a time; gives what waits for a run that begins after the call. */
const oneWriter = Effect.fnUntraced(
  function*(advance: Effect.Effect<void, StoreUnavailable>, feed: ChangeFeed["Service"]) {
    const wakeUps = yield* Queue.sliding<void>(1)
    let waiting: Array<Deferred.Deferred<void, StoreUnavailable>> = []

    const writer = Effect.gen(function*() {
      yield* Queue.take(wakeUps)
      const answered = waiting
      waiting = []
      const exit = yield* Effect.exit(advance)
      if (Exit.isFailure(exit))
        yield* Effect.logWarning("the log of changes could not be read; trying again", exit.cause)
      const answer = Exit.isSuccess(exit) ? Exit.void : Exit.fail(unavailable)
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

type Place = Pick<NetworkState, "revision" | "timeline">

/** The history is not continued where it was left: its clients must not take what comes for a continuation. */
const beginTimeline = Effect.fnUntraced(function*(log: ChangeLog["Service"], { revision, timeline }: Place) {
  yield* Metric.update(lostTimelines, 1)
  yield* Effect.logError(
    `the database does not have what it had at revision ${revision}: it was restored, or has lost its last changes. ` +
      "Every client gets its whole view anew, as the database has it now"
  )
  yield* log.beginTimeline(timeline)
})

/** What the database has, on a timeline of its own if it is behind what this process had seen before it was started. */
const firstSnapshot = Effect.gen(function*() {
  const log = yield* ChangeLog
  const mark = Option.getOrUndefined(yield* (yield* HighWater).kept)
  const snapshot = yield* log.snapshot
  if (mark === undefined || !isBehind(snapshot, mark, yield* log.tagAt(mark.revision))) return snapshot
  yield* beginTimeline(log, mark)
  return yield* log.snapshot
})

const keepMarkEvery = "1 second"

const keepMark = Effect.fnUntraced(function*(current: Effect.Effect<Snapshot>) {
  const highWater = yield* HighWater
  let kept: Revision | undefined
  let keptOf: Timeline | undefined
  const keep = Effect.gen(function*() {
    const { state: { revision, timeline }, tag } = yield* current
    if (revision === kept && timeline === keptOf) return
    yield* highWater.keep({ timeline, revision, tag })
    kept = revision
    keptOf = timeline
  })
  yield* Effect.addFinalizer(() => keep)
  yield* Effect.forkScoped(Effect.repeat(keep, Schedule.spaced(keepMarkEvery)))
})

/** A key that is put may take the place of another under the same id. */
const removing: ReadonlySet<Change["_tag"]> = new Set(
  ["AgentRemoved", "GatewayRemoved", "KeyRemoved", "KeyPut"] as const
)

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
