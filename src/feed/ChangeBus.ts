/** From the one writer of the network to every connection: a sliding PubSub for each audience that somebody follows. */
import type { Audience, Step } from "#network/step.ts"
import { type ClientRef, Revision } from "#schema/ids.ts"
import { Context, Effect, Layer, PubSub, type Scope } from "effect"
import { Batch } from "./Batch.ts"

/** The topics: all gateways share one, each agent has its own. */
type Topic = Exclude<Audience, "agents">

interface Open {
  readonly pubsub: PubSub.PubSub<Batch>
  followers: number
  last: Revision
}

/**
 * How many batches wait for a connection that does not take them. Sliding: the publisher never waits, the oldest go, and
 * their receiver sees by `previous` that it has missed something and sends one whole config instead.
 */
const capacity = { gateways: 64, agent: 16 }

export class ChangeBus extends Context.Service<ChangeBus, {
  /** Gives each audience its steps, in order, as one batch. */
  publish(steps: ReadonlyArray<Step>): Effect.Effect<void>
  /** Makes every follower send a whole config: the history has not been continued, or part of it is gone. */
  readonly restart: Effect.Effect<void>
  /** What concerns this client, from now on until the scope closes. */
  follow(client: ClientRef): Effect.Effect<PubSub.Subscription<Batch>, never, Scope.Scope>
}>()("control/feed/ChangeBus") {
  static readonly layer = Layer.effect(
    ChangeBus,
    Effect.sync(() => {
      /** Only topics with followers are here, so an audience that nobody follows costs nothing. */
      const topics = new Map<Topic, Open>()

      const send = (open: Open, steps: ReadonlyArray<Step>) =>
        Effect.suspend(() => {
          const revision = steps.at(-1)?.revision ?? open.last
          const batch = new Batch(open.last, revision, steps)
          open.last = revision
          return PubSub.publish(open.pubsub, batch)
        })

      const publish = Effect.fnUntraced(function*(steps: ReadonlyArray<Step>) {
        for (const [topic, theirs] of byTopic(steps, topics)) {
          const open = topics.get(topic)
          if (open !== undefined) yield* send(open, theirs)
        }
      })

      const restart = Effect.suspend(() => {
        const everyone = [...topics.values()]
        return Effect.forEach(everyone, (open) => PubSub.publish(open.pubsub, new Batch(neverSent, neverSent, [])), {
          discard: true
        })
      })

      const follow = (client: ClientRef) =>
        Effect.gen(function*() {
          const topic: Topic = client.type === "gateway" ? "gateways" : `agent:${client.id}`
          yield* Effect.acquireRelease(
            Effect.suspend(() => openTopic(topics, topic)),
            (open) => Effect.suspend(() => leave(topics, topic, open))
          )
          return yield* PubSub.subscribe((topics.get(topic) as Open).pubsub)
        })

      return ChangeBus.of({ publish, restart, follow })
    })
  )
}

/** A revision that no receiver has, so that a batch after it is a gap for everyone. */
const neverSent = Revision.make(Number.MAX_SAFE_INTEGER)

const openTopic = Effect.fnUntraced(function*(topics: Map<Topic, Open>, topic: Topic) {
  const known = topics.get(topic)
  if (known !== undefined) {
    known.followers += 1
    return known
  }
  const pubsub = yield* PubSub.sliding<Batch>(topic === "gateways" ? capacity.gateways : capacity.agent)
  const open: Open = { pubsub, followers: 1, last: Revision.make(0) }
  topics.set(topic, open)
  return open
})

function leave(topics: Map<Topic, Open>, topic: Topic, open: Open): Effect.Effect<void> {
  open.followers -= 1
  if (open.followers > 0) return Effect.void
  topics.delete(topic)
  return PubSub.shutdown(open.pubsub)
}

/** Each topic's steps in order of revision; a step for all agents is a step of every agent's topic. */
function byTopic(
  steps: ReadonlyArray<Step>,
  topics: ReadonlyMap<Topic, Open>
): ReadonlyMap<Topic, ReadonlyArray<Step>> {
  const result = new Map<Topic, Array<Step>>()
  const append = (topic: Topic, step: Step) => {
    const list = result.get(topic)
    if (list === undefined) result.set(topic, [step])
    else list.push(step)
  }
  for (const step of steps) {
    if (step.audience !== "agents") append(step.audience, step)
    else { for (const topic of topics.keys()) if (topic !== "gateways") append(topic, step) }
  }
  return result
}
