/** Delivers deltas from the network's writer to connections, by a sliding PubSub for each topic. */
import type { NetworkState } from "#network/NetworkState.ts"
import type { Delta } from "#views/delta.ts"
import type { Topic } from "#network/scope.ts"
import { Revision, type Timeline } from "#schema/ids.ts"
import { Context, Effect, Layer, Metric, Option, PubSub, type Scope } from "effect"
import { Batch } from "#views/Batch.ts"

/** A topic with at least one subscriber. */
interface OpenTopic {
  readonly pubsub: PubSub.PubSub<Update>
  /** Subscriptions whose fiber waits for an update. */
  readonly waiting: Set<Subscription>
  subscribers: number
  /** Revision of the last update; 0 before the first one. */
  lastRevision: Revision
}

/**
 * Maximum number of updates that wait for one connection. The PubSub is sliding: the publisher never waits, and the oldest
 * updates are dropped. Their receiver detects the gap by `Batch.previous` and sends a config instead.
 */
const capacity = { gateway: 64, agent: 16 }

/**
 * A batch of deltas, or `resync` if the history is not contiguous, so that the receiver needs a config. A receiver whose `resync`
 * was dropped detects that by the next batch: its `previous` is after the resync, and its timeline may be new.
 */
export type Update = Batch | "resync"

/**
 * One subscriber's side of a topic. Its fiber waits on a callback and not in `PubSub.take`, because waking a fiber there costs
 * three times as much.
 */
export class Subscription {
  readonly #subscription: PubSub.Subscription<Update>
  /** Created once for the subscription; resuming an interrupted fiber has no effect. */
  readonly #arrival: Effect.Effect<void>
  #resume: (effect: Effect.Effect<void>) => void = () => {}

  constructor(subscription: PubSub.Subscription<Update>, waiting: Set<Subscription>) {
    this.#subscription = subscription
    this.#arrival = Effect.callback<void>((resume) => {
      this.#resume = resume
      waiting.add(this)
    })
  }

  /** Waits for at least one update and takes all that have arrived. */
  readonly takeAll: Effect.Effect<ReadonlyArray<Update>> = Effect.suspend(() =>
    this.size === 0 ? Effect.andThen(this.#arrival, this.takeAll) : PubSub.takeAll(this.#subscription)
  )

  /** Number of updates that have arrived and were not taken. */
  get size(): number {
    return Option.getOrElse(PubSub.remainingUnsafe(this.#subscription), () => 0)
  }

  wake(): void {
    this.#resume(Effect.void)
  }
}

export class ChangeBus extends Context.Service<ChangeBus, {
  /** Sends each audience its deltas of this timeline, in order, as one batch. */
  publish(timeline: Timeline, deltas: ReadonlyArray<Delta>): Effect.Effect<void>
  /** Makes every subscriber send a config of this state or a later one. */
  publishResync(state: Pick<NetworkState, "timeline" | "revision">): Effect.Effect<void>
  /** Subscribes to the updates of a topic until the scope closes. */
  subscribe(topic: Topic): Effect.Effect<Subscription, never, Scope.Scope>
  /** Revision of the last update that was published to the topic; undefined while the topic has no subscriber. */
  lastRevisionOf(topic: Topic): Revision | undefined
}>()("control/feed/ChangeBus") {
  static readonly layer = Layer.effect(
    ChangeBus,
    Effect.sync(() => {
      /** Topics with subscribers only, so that an audience without subscribers costs nothing. */
      const topics = new Map<Topic, OpenTopic>()

      const publish = Effect.fnUntraced(function*(timeline: Timeline, deltas: ReadonlyArray<Delta>) {
        for (const [topic, ofTopic] of groupByTopic(deltas, topics)) {
          const open = topics.get(topic)
          if (open === undefined) continue
          const batch = new Batch(timeline, open.lastRevision, ofTopic)
          open.lastRevision = batch.revision
          yield* PubSub.publish(open.pubsub, batch)
          wakeAll(open)
          yield* Metric.update(batchesPublished, open.subscribers)
        }
      })

      const publishResync = ({ revision }: Pick<NetworkState, "timeline" | "revision">) =>
        Effect.forEach([...topics.values()], (open) => {
          open.lastRevision = revision
          return Effect.tap(PubSub.publish(open.pubsub, "resync"), () => Effect.sync(() => wakeAll(open)))
        }, { discard: true })

      const subscribe = Effect.fnUntraced(function*(topic: Topic) {
        const open = yield* Effect.acquireRelease(
          Effect.map(openTopic(topics, topic), (open) => {
            open.subscribers += 1
            return open
          }),
          (open) => removeSubscriber(topics, topic, open)
        )
        const subscription = yield* PubSub.subscribe(open.pubsub)
        return yield* Effect.acquireRelease(
          Effect.sync(() => new Subscription(subscription, open.waiting)),
          (waiting) => Effect.sync(() => open.waiting.delete(waiting))
        )
      })

      const lastRevisionOf = (topic: Topic) => topics.get(topic)?.lastRevision

      return ChangeBus.of({ publish, publishResync, subscribe, lastRevisionOf })
    })
  )
}

const batchesPublished = Metric.counter("control_pushes_total", {
  description: "Batches of deltas published to connections, counted once for each subscriber of the topic",
  incremental: true
})

const openTopic = Effect.fnUntraced(function*(topics: Map<Topic, OpenTopic>, topic: Topic) {
  const existing = topics.get(topic)
  if (existing !== undefined) return existing
  const pubsub = yield* PubSub.sliding<Update>(topic.startsWith("gateway") ? capacity.gateway : capacity.agent)
  // Another fiber may have opened the topic since; all subscribers use the first one.
  const open = topics.get(topic) ?? { pubsub, waiting: new Set(), subscribers: 0, lastRevision: Revision.make(0) }
  topics.set(topic, open)
  return open
})

/** Clears the set first, because a woken fiber may wait again at once. */
function wakeAll({ waiting }: OpenTopic): void {
  const woken = [...waiting]
  waiting.clear()
  for (const subscription of woken) subscription.wake()
}

const removeSubscriber = (topics: Map<Topic, OpenTopic>, topic: Topic, open: OpenTopic): Effect.Effect<void> =>
  Effect.suspend(() => {
    open.subscribers -= 1
    if (open.subscribers > 0) return Effect.void
    topics.delete(topic)
    return PubSub.shutdown(open.pubsub)
  })

/** Groups deltas by topic in order of revision; a delta for all agents belongs to every agent's topic. */
function groupByTopic(
  deltas: ReadonlyArray<Delta>,
  topics: ReadonlyMap<Topic, OpenTopic>
): ReadonlyMap<Topic, readonly [Delta, ...ReadonlyArray<Delta>]> {
  const result = new Map<Topic, [Delta, ...Array<Delta>]>()
  const append = (topic: Topic, delta: Delta) => {
    const list = result.get(topic)
    if (list === undefined) result.set(topic, [delta])
    else list.push(delta)
  }
  for (const delta of deltas) {
    if (delta.audience !== "agents") append(delta.audience, delta)
    else { for (const topic of topics.keys()) if (topic.startsWith("agent:")) append(topic, delta) }
  }
  return result
}
