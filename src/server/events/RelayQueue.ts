/** Queue of this node's events that other nodes have not received yet. Synchronous. */
import type { ControlEvent } from "#schema/events.ts"
import { resetEvent } from "./EventBuffer.ts"
import { clientNameOf } from "./PresenceOrder.ts"
import type { RelayedEvent } from "./RelayedEvent.ts"

interface QueuedEvent {
  readonly relayed: RelayedEvent
  /** Milliseconds of `setTime`. */
  readonly since: number
}

export class RelayQueue {
  readonly #maxEvents: number
  /** In order of publication. An `ack` has its client as key, so that a newer one replaces it and moves to the end. */
  readonly #queue = new Map<string | number, QueuedEvent>()
  #count = 0
  #now = 0
  #isIncomplete = false

  /** Beyond `maxEvents` the oldest events are dropped, and the next batch begins with a `reset`. */
  constructor(maxEvents: number) {
    this.#maxEvents = maxEvents
  }

  get size(): number {
    return this.#queue.size
  }

  add(relayed: RelayedEvent): void {
    const { event } = relayed
    const key = event.event === "ack" ? clientNameOf(event.data) : this.#count += 1
    this.#queue.delete(key)
    this.#queue.set(key, { relayed, since: this.#now })
    if (this.#queue.size > this.#maxEvents) {
      this.#dropOldest()
      this.markIncomplete()
    }
  }

  /** Sets the time, in milliseconds, of the events that are added from now on. */
  setTime(millis: number): void {
    this.#now = millis
  }

  /** Drops events older than this, silently, because no other node was there to receive them. */
  discardBefore(millis: number): void {
    this.#isIncomplete = false
    this.#dropBefore(millis)
  }

  /** Drops events older than this. If there were any, the next batch begins with a `reset`. */
  expireBefore(millis: number): void {
    if (this.#dropBefore(millis)) this.markIncomplete()
  }

  /** Makes the next batch begin with a `reset`, because events were lost. */
  markIncomplete(): void {
    this.#isIncomplete = true
  }

  /** Takes the oldest events, as JSON texts of up to `maxCharacters` in total but at least one; none if the queue is empty. */
  takeBatch(maxCharacters: number, nodeName: string): ReadonlyArray<string> {
    const batch: Array<string> = this.#isIncomplete ? [JSON.stringify(incomplete(nodeName))] : []
    this.#isIncomplete = false
    let characters = 0
    for (const [key, { relayed }] of this.#queue) {
      const text = JSON.stringify(relayed)
      characters += text.length
      if (batch.length > 0 && characters > maxCharacters) break
      batch.push(text)
      this.#queue.delete(key)
    }
    return batch
  }

  #dropOldest(): void {
    for (const key of this.#queue.keys()) {
      this.#queue.delete(key)
      return
    }
  }

  #dropBefore(millis: number): boolean {
    const { size } = this.#queue
    for (const [key, { since }] of this.#queue) {
      if (since >= millis) break
      this.#queue.delete(key)
    }
    return this.#queue.size < size
  }
}

const incomplete = (node: string): { readonly event: ControlEvent } => ({
  event: resetEvent(`node ${node} could not send all of its events to the other nodes`)
})
