/** The fiber that tells the other nodes what is told here, and tells on here what they have told. */
import { Events } from "#events/Events.ts"
import { resetEvent } from "#events/EventBuffer.ts"
import { RelayedEvent } from "#events/RelayedEvent.ts"
import { EventStore, type NodeEventBatch } from "#store/EventStore.ts"
import { Effect, Layer, Option, Schedule, Schema } from "effect"
import { monotonicMillis } from "#time/monotonic.ts"
import { NodeLease } from "./NodeLease.ts"

/** Twice that, and everybody at every node was told. */
const every = "1 second"

/** What was told while nobody else was there is kept for as long as a node that has come may not be known of. */
const keptAlone = 5_000

/** What could not be told for so long comes too late, in milliseconds. */
const patience = 60_000

/** Of one batch. One a second. */
const mostCharacters = 524_288

/** Those that have told something lately, of whom it is remembered how far they were heard. */
const mostNodesKnown = 1_000

export const layer = Layer.effectDiscard(Effect.gen(function*() {
  const send = yield* makeSending
  const read = yield* makeReading
  // Registered before the fiber, so that it runs after that: what was told last.
  yield* Effect.addFinalizer(() => Effect.ignore(Effect.timeout(send, "1 second")))
  yield* Effect.andThen(send, read).pipe(
    Effect.catchCause((cause) => Effect.logWarning("events could not be told to other nodes; trying again", cause)),
    Effect.repeat(Schedule.spaced(every)),
    Effect.forkScoped
  )
}))

/** One batch at a time, until it is written: of one whose commit got no answer, a second writing does nothing. */
const makeSending = Effect.gen(function*() {
  const nodes = yield* NodeLease
  const { outbox } = yield* Events
  const { appendBatch: append } = yield* EventStore
  let number = 0
  let unsent: { readonly text: string; readonly since: number } | undefined

  return Effect.gen(function*() {
    const now = yield* monotonicMillis
    outbox.setTime(now)
    if (!(yield* nodes.hasOtherNodes)) {
      unsent = undefined
      return outbox.discardBefore(now - keptAlone)
    }
    outbox.expireBefore(now - patience)
    if (unsent !== undefined && unsent.since < now - patience) {
      unsent = undefined
      outbox.markIncomplete()
    }
    if (unsent === undefined) {
      const events = outbox.takeBatch(mostCharacters, nodes.name)
      if (events.length === 0) return
      number += 1
      unsent = { text: `[${events.join(",")}]`, since: now }
    }
    yield* append(nodes.id, number, unsent.text)
    unsent = undefined
  })
})

/** Each node's batches by its own count, from the present on: what has a later number was written later. */
const makeReading = Effect.gen(function*() {
  const nodes = yield* NodeLease
  const { receive: hear } = yield* Events
  const store = yield* EventStore
  let known: Map<string, number> | undefined

  const hearAll = (known: Map<string, number>, { events, name, node, number }: NodeEventBatch) => {
    const last = known.get(node)
    known.delete(node)
    known.set(node, number)
    const told = decodeBatch(events)
    if (last !== undefined && number > last + 1 || Option.isNone(told)) {
      hear({ event: resetEvent(`not all events of the node ${name ?? node} have come here`) })
    }
    for (const telling of Option.getOrElse(told, () => [])) {
      // Of another version, perhaps.
      const known = decodeTelling(telling)
      if (Option.isSome(known)) hear(known.value)
    }
  }

  return Effect.gen(function*() {
    if (known === undefined) {
      known = new Map(yield* store.readBatchNumbers)
      return
    }
    while (yield* nodes.hasOtherNodes) {
      const { batches, isComplete: isAll } = yield* store.readNewBatches(nodes.id, known)
      for (const batch of batches) hearAll(known, batch)
      for (const node of [...known.keys()].slice(0, -mostNodesKnown)) known.delete(node)
      if (isAll) return
    }
  })
})

const decodeBatch = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Array(Schema.Unknown)))
const decodeTelling = Schema.decodeUnknownOption(RelayedEvent)
