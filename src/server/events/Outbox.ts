/** What this node tells and the others have not been told yet. Plain, and nothing in it waits. */
import type { ControlEvent } from "#schema/events.ts"
import { clientNameOf } from "./PresenceOrder.ts"
import { resetEvent } from "./EventBuffer.ts"
import type { RelayedEvent } from "./RelayedEvent.ts"

interface Waiting {
  readonly telling: RelayedEvent
  readonly since: number
}

export class Outbox {
  readonly #most: number
  /** In the order of telling. An acknowledgement lies under its client: a newer one takes its place, behind all that was told by then. */
  readonly #waiting = new Map<string | number, Waiting>()
  #count = 0
  #now = 0
  #isCut = false

  /** Keeps so many: beyond that the oldest go, and what is taken next says so. */
  constructor(most: number) {
    this.#most = most
  }

  get size(): number {
    return this.#waiting.size
  }

  add(telling: RelayedEvent): void {
    const { event } = telling
    const key = event.event === "ack" ? clientNameOf(event.data) : this.#count += 1
    this.#waiting.delete(key)
    this.#waiting.set(key, { telling, since: this.#now })
    if (this.#waiting.size > this.#most) {
      this.#dropOldest()
      this.markIncomplete()
    }
  }

  /** What is added from now on was told at this time. */
  setTime(millis: number): void {
    this.#now = millis
  }

  /** Nobody is there to be told of what is older than that. */
  discardBefore(millis: number): void {
    this.#isCut = false
    this.#dropBefore(millis)
  }

  /** What is older than that comes too late; what is taken next says that it is missing. */
  expireBefore(millis: number): void {
    if (this.#dropBefore(millis)) this.markIncomplete()
  }

  /** Something that was taken is lost; what is taken next says so. */
  markIncomplete(): void {
    this.#isCut = true
  }

  /** The oldest, as JSON, of so many characters together, but one at least; none when there is nothing to tell. */
  takeBatch(mostCharacters: number, whoIsCut: string): ReadonlyArray<string> {
    const taken: Array<string> = this.#isCut ? [JSON.stringify(cut(whoIsCut))] : []
    this.#isCut = false
    let characters = 0
    for (const [key, { telling }] of this.#waiting) {
      const text = JSON.stringify(telling)
      characters += text.length
      if (taken.length > 0 && characters > mostCharacters) break
      taken.push(text)
      this.#waiting.delete(key)
    }
    return taken
  }

  #dropOldest(): void {
    for (const key of this.#waiting.keys()) {
      this.#waiting.delete(key)
      return
    }
  }

  #dropBefore(millis: number): boolean {
    const { size } = this.#waiting
    for (const [key, { since }] of this.#waiting) {
      if (since >= millis) break
      this.#waiting.delete(key)
    }
    return this.#waiting.size < size
  }
}

const cut = (node: string): { readonly event: ControlEvent } => ({
  event: resetEvent(`the node ${node} has not told the others all of its events`)
})
