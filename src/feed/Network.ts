/** The network as this process knows it. One fiber writes it: what the feed brings is applied here and goes out from here. */
import { apply, type Change, type NetworkState } from "#network/NetworkState.ts"
import { type Step, steps } from "#network/step.ts"
import { pageSize } from "#store/ChangeLog.ts"
import { StoreUnavailable } from "#store/sql.ts"
import { Context, Deferred, Effect, Exit, Layer, Metric, PubSub, Queue, Ref, type Scope } from "effect"
import { ChangeBus } from "./ChangeBus.ts"
import { ChangeFeed } from "./ChangeFeed.ts"

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
      const feed = yield* ChangeFeed
      const bus = yield* ChangeBus
      const state = yield* Ref.make(yield* feed.snapshot)
      const removed = yield* PubSub.sliding<void>(1)
      const wakeUps = yield* Queue.sliding<void>(1)
      let waiting: Array<Deferred.Deferred<void, StoreUnavailable>> = []

      const reload = Effect.fn("Network.reload")(function*() {
        yield* Effect.logWarning(
          "the log of changes does not continue what this process knows: reading everything again"
        )
        yield* Ref.set(state, yield* feed.snapshot)
        yield* bus.restart
        yield* PubSub.publish(removed, undefined)
      })

      /** Reads what is new, applies it, and gives it out, page by page until nothing is left. */
      const advance = Effect.gen(function*() {
        while (true) {
          const before = yield* Ref.get(state)
          const page = yield* feed.after(before.revision)
          const continues = page.timeline === before.timeline && page.newest >= before.revision &&
            (page.oldest === undefined ? page.newest === before.revision : page.oldest <= before.revision + 1)
          if (!continues) return yield* reload()
          const out: Array<Step> = []
          let after = before
          for (const change of page.changes) {
            const next = apply(after, change)
            out.push(...steps(after, next, change))
            after = next
          }
          yield* Ref.set(state, { ...after, revision: page.upTo })
          yield* bus.publish(out)
          if (page.changes.some((change) => removing.has(change._tag))) yield* PubSub.publish(removed, undefined)
          yield* Metric.update(revisionGauge, page.upTo)
          yield* Metric.update(lagGauge, Math.max(0, page.newest - page.upTo))
          if (page.upTo - before.revision < pageSize) return
        }
      })

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

      const catchUp = Effect.gen(function*() {
        const deferred = yield* Deferred.make<void, StoreUnavailable>()
        waiting.push(deferred)
        yield* wake
        yield* Deferred.await(deferred)
      })

      return Network.of({ state: Ref.get(state), catchUp, removals: PubSub.subscribe(removed) })
    })
  )
}

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
