/** From the one writer of the network to every connection: a sliding PubSub for each audience that somebody follows. */
import type { NetworkState } from "#network/NetworkState.ts"
import type { Step } from "#views/delta.ts"
import type { Topic } from "#network/scope.ts"
import { Revision, type Timeline } from "#schema/ids.ts"
import { Context, Effect, Layer, Metric, Option, PubSub, type Scope } from "effect"
import { Batch } from "#views/Batch.ts"

interface Open {
  readonly pubsub: PubSub.PubSub<Push>
  /** The followers that wait for something to come. */
  readonly waiting: Set<Pushes>
  followers: number
  last: Revision
}

/** Which history, and up to where it is known. */
type Known = Pick<NetworkState, "timeline" | "revision">

/**
 * How many batches wait for a connection that does not take them. Sliding: the publisher never waits, the oldest go, and
 * their receiver sees by `previous` that it has missed something and sends one whole config instead.
 */
const capacity = { gateway: 64, agent: 16 }

/**
 * `restart`: the history has not been continued, or part of it is gone; only a whole config helps. Should it be dropped, its
 * receiver sees that from the next batch, which goes on after what the restart covers, and names its timeline.
 */
export type Push = Batch | "restart"

/**
 * One follower's side of a topic. It waits beside its subscription, not in it: to wake a fiber that waits in `PubSub.take`
 * costs three times as much.
 */
export class Pushes {
  readonly #subscription: PubSub.Subscription<Push>
  /** Made once; whoever was interrupted meanwhile is resumed in vain. */
  readonly #arrival: Effect.Effect<void>
  #resume: (effect: Effect.Effect<void>) => void = () => {}

  constructor(subscription: PubSub.Subscription<Push>, waiting: Set<Pushes>) {
    this.#subscription = subscription
    this.#arrival = Effect.callback<void>((resume) => {
      this.#resume = resume
      waiting.add(this)
    })
  }

  /** Everything that has come since the last time, as soon as there is something. */
  readonly take: Effect.Effect<ReadonlyArray<Push>> = Effect.suspend(() =>
    this.size === 0 ? Effect.andThen(this.#arrival, this.take) : PubSub.takeAll(this.#subscription)
  )

  /** How much has come and was not taken. */
  get size(): number {
    return Option.getOrElse(PubSub.remainingUnsafe(this.#subscription), () => 0)
  }

  wake(): void {
    this.#resume(Effect.void)
  }
}

export class ChangeBus extends Context.Service<ChangeBus, {
  /** Gives each audience its steps in this history, in order, as one batch. */
  publish(timeline: Timeline, steps: ReadonlyArray<Step>): Effect.Effect<void>
  /** Makes every follower send a whole config: of this history, at this revision or a later one. */
  restart(known: Known): Effect.Effect<void>
  /** What concerns the topic's clients, from now on until the scope closes. */
  follow(topic: Topic): Effect.Effect<Pushes, never, Scope.Scope>
  /** The newest revision that the topic's followers were given; undefined while nobody follows it. */
  lastOf(topic: Topic): Revision | undefined
}>()("control/feed/ChangeBus") {
  static readonly layer = Layer.effect(
    ChangeBus,
    Effect.sync(() => {
      /** Only topics with followers are here, so an audience that nobody follows costs nothing. */
      const topics = new Map<Topic, Open>()

      const publish = Effect.fnUntraced(function*(timeline: Timeline, steps: ReadonlyArray<Step>) {
        for (const [topic, theirs] of byTopic(steps, topics)) {
          const open = topics.get(topic)
          if (open === undefined) continue
          const batch = new Batch(timeline, open.last, theirs)
          open.last = batch.revision
          yield* PubSub.publish(open.pubsub, batch)
          wakeAll(open)
          yield* Metric.update(pushes, open.followers)
        }
      })

      const restart = ({ revision }: Known) =>
        Effect.forEach([...topics.values()], (open) => {
          open.last = revision
          return Effect.tap(PubSub.publish(open.pubsub, "restart"), () => Effect.sync(() => wakeAll(open)))
        }, { discard: true })

      const follow = Effect.fnUntraced(function*(topic: Topic) {
        const open = yield* Effect.acquireRelease(
          Effect.map(openTopic(topics, topic), (open) => {
            open.followers += 1
            return open
          }),
          (open) => leave(topics, topic, open)
        )
        const subscription = yield* PubSub.subscribe(open.pubsub)
        return yield* Effect.acquireRelease(
          Effect.sync(() => new Pushes(subscription, open.waiting)),
          (pushes) => Effect.sync(() => open.waiting.delete(pushes))
        )
      })

      const lastOf = (topic: Topic) => topics.get(topic)?.last

      return ChangeBus.of({ publish, restart, follow, lastOf })
    })
  )
}

const pushes = Metric.counter("control_pushes_total", {
  description: "Batches of steps given to connections: one for each that follows the audience",
  incremental: true
})

const none = Revision.make(0)

const openTopic = Effect.fnUntraced(function*(topics: Map<Topic, Open>, topic: Topic) {
  const known = topics.get(topic)
  if (known !== undefined) return known
  const pubsub = yield* PubSub.sliding<Push>(topic.startsWith("gateway") ? capacity.gateway : capacity.agent)
  // Somebody else may have opened it meanwhile: whose it is first, all use.
  const open = topics.get(topic) ?? { pubsub, waiting: new Set(), followers: 0, last: none }
  topics.set(topic, open)
  return open
})

/** Who is woken may wait again at once: in the set that is there then. */
function wakeAll({ waiting }: Open): void {
  const woken = [...waiting]
  waiting.clear()
  for (const pushes of woken) pushes.wake()
}

const leave = (topics: Map<Topic, Open>, topic: Topic, open: Open): Effect.Effect<void> =>
  Effect.suspend(() => {
    open.followers -= 1
    if (open.followers > 0) return Effect.void
    topics.delete(topic)
    return PubSub.shutdown(open.pubsub)
  })

/** Each topic's steps in order of revision; a step for all agents is a step of every agent's topic. */
function byTopic(
  steps: ReadonlyArray<Step>,
  topics: ReadonlyMap<Topic, Open>
): ReadonlyMap<Topic, readonly [Step, ...ReadonlyArray<Step>]> {
  const result = new Map<Topic, [Step, ...Array<Step>]>()
  const append = (topic: Topic, step: Step) => {
    const list = result.get(topic)
    if (list === undefined) result.set(topic, [step])
    else list.push(step)
  }
  for (const step of steps) {
    if (step.audience !== "agents") append(step.audience, step)
    else { for (const topic of topics.keys()) if (topic.startsWith("agent:")) append(topic, step) }
  }
  return result
}
