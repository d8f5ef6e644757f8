/** Relays events between nodes: sends those of this node, receives those of the others. */
import { resetEvent } from "#events/EventBuffer.ts"
import { Events } from "#events/Events.ts"
import { RelayedEvent } from "#events/RelayedEvent.ts"
import { EventStore, type NodeEventBatch } from "#store/EventStore.ts"
import { Intervals } from "#time/Intervals.ts"
import { monotonicMillis } from "#time/monotonic.ts"
import { Effect, Layer, Option, Schedule, Schema } from "effect"
import { NodeLease } from "./NodeLease.ts"

/** Retention of events while no other node is known: a node that has just started is known after two renewals at most. */
const soloRetentionMillis = 5_000

/** Age after which an event that could not be relayed is dropped. */
const relayTimeoutMillis = 60_000

/** Size of one batch. */
const maxBatchCharacters = 524_288

/** Number of nodes whose last batch number is kept, of those that sent a batch last. */
const maxTrackedNodes = 1_000

export const layer = Layer.effectDiscard(Effect.gen(function*() {
  const { eventRelayInterval } = yield* Intervals
  const send = yield* makeSend
  const receive = yield* makeReceive
  // Registered before the fiber, so that it runs after the fiber has stopped and sends the last events.
  yield* Effect.addFinalizer(() =>
    Effect.andThen(
      Effect.ignore(Effect.timeout(send, "1 second")),
      Effect.logDebug("shutdown: the last events are sent to the other nodes")
    )
  )
  yield* Effect.andThen(send, receive).pipe(
    Effect.catchCause((cause) => Effect.logWarning("cannot exchange events with other nodes; retrying", cause)),
    Effect.repeat(Schedule.spaced(eventRelayInterval)),
    Effect.forkScoped
  )
}))

/** Sends one batch at a time until it is written. Writing it again after a commit without an answer does nothing. */
const makeSend = Effect.gen(function*() {
  const lease = yield* NodeLease
  const { relayQueue } = yield* Events
  const { appendBatch } = yield* EventStore
  let number = 0
  let unsent: { readonly text: string; readonly since: number } | undefined

  return Effect.gen(function*() {
    const now = yield* monotonicMillis
    relayQueue.setTime(now)
    if (!(yield* lease.hasOtherNodes)) {
      unsent = undefined
      return relayQueue.discardBefore(now - soloRetentionMillis)
    }
    relayQueue.expireBefore(now - relayTimeoutMillis)
    if (unsent !== undefined && unsent.since < now - relayTimeoutMillis) {
      unsent = undefined
      relayQueue.markIncomplete()
    }
    if (unsent === undefined) {
      const events = relayQueue.takeBatch(maxBatchCharacters, lease.name)
      if (events.length === 0) return
      number += 1
      unsent = { text: `[${events.join(",")}]`, since: now }
    }
    yield* appendBatch(lease.id, number, unsent.text)
    unsent = undefined
  })
})

/** Receives the batches of each node in order of their numbers, beginning with those written after this node started. */
const makeReceive = Effect.gen(function*() {
  const lease = yield* NodeLease
  const events = yield* Events
  const store = yield* EventStore
  let lastNumbers: Map<string, number> | undefined

  const receiveBatch = (lastNumbers: Map<string, number>, { events: text, name, node, number }: NodeEventBatch) => {
    const last = lastNumbers.get(node)
    lastNumbers.delete(node)
    lastNumbers.set(node, number)
    const batch = decodeBatch(text)
    if (last !== undefined && number > last + 1 || Option.isNone(batch)) {
      events.receive({ event: resetEvent(`some events of node ${name ?? node} did not arrive at this node`) })
    }
    for (const item of Option.getOrElse(batch, () => [])) {
      // A node of another version may send events that this version does not know.
      const relayed = decodeRelayed(item)
      if (Option.isSome(relayed)) events.receive(relayed.value)
    }
  }

  return Effect.gen(function*() {
    if (lastNumbers === undefined) {
      lastNumbers = new Map(yield* store.readBatchNumbers)
      return
    }
    while (yield* lease.hasOtherNodes) {
      const { batches, isComplete } = yield* store.readNewBatches(lease.id, lastNumbers)
      for (const batch of batches) receiveBatch(lastNumbers, batch)
      for (const node of [...lastNumbers.keys()].slice(0, -maxTrackedNodes)) lastNumbers.delete(node)
      if (isComplete) return
    }
  })
})

const decodeBatch = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Array(Schema.Unknown)))
const decodeRelayed = Schema.decodeUnknownOption(RelayedEvent)
