/** Ring buffer of this process's events, and the cursors that read it. Synchronous. */
import type { ControlEvent } from "#schema/events.ts"
import { Revision } from "#schema/ids.ts"

/** An event with the id after which its reader can resume. */
export interface PublishedEvent {
  readonly id: string
  readonly event: ControlEvent
}

/** Start of a reader: the event with the number `next`. */
export interface Cursor {
  /** Event id that stands for this position. */
  readonly from: string
  readonly next: number
  /** Gap before the cursor: changes after one revision up to another may be missing, and other events too. */
  readonly missed: { readonly after: Revision; readonly upTo: Revision } | undefined
}

interface BufferedEvent extends PublishedEvent {
  /** Newest revision whose change was published before or with this event. */
  readonly revision: Revision
}

export class EventBuffer {
  readonly #bootId: string
  readonly #size: number
  /** The event with number n is at index n modulo the size, so that a new event overwrites the oldest. */
  readonly #ring: Array<BufferedEvent> = []
  #number = 0
  #newest: BufferedEvent

  /** Keeps the last `size` events. `bootId` is unique among all processes, past ones included. */
  constructor(bootId: string, size: number) {
    this.#bootId = bootId
    this.#size = size
    this.#newest = this.#add(resetEvent("the server has started"), Revision.make(0))
  }

  /** The number of the newest event. */
  get newest(): number {
    return this.#number
  }

  add(event: ControlEvent): void {
    this.#newest = this.#add(event, event.event === "change" ? event.data.revision : this.#newest.revision)
  }

  /** Adds a `reset`, because changes up to this revision were loaded as a whole and not published one by one. */
  addReload(revision: Revision): void {
    this.#newest = this.#add(
      resetEvent(`the network was reloaded: changes up to revision ${revision} have no events`),
      revision
    )
  }

  /** The cursor after this event, or after the newest event if no id is given. */
  cursorAfter(lastEventId: string | undefined): Cursor {
    const next = this.#number + 1
    if (lastEventId === undefined) return { from: this.#newest.id, next, missed: undefined }
    const last = parseId(lastEventId)
    if (last !== undefined && this.#at(last.number)?.id === lastEventId) {
      return { from: lastEventId, next: last.number + 1, missed: undefined }
    }
    const upTo = this.#newest.revision
    const after = last === undefined || last.revision > upTo ? upTo : last.revision
    return { from: this.idOf(this.#number, after), next, missed: { after, upTo } }
  }

  /** Up to `limit` events from this number on, and the next number. A reader that was overtaken continues at the newest. */
  page(next: number, limit: number): { readonly events: ReadonlyArray<PublishedEvent>; readonly next: number } {
    if (next <= this.#number - this.#size) {
      const overtaken = { id: this.#newest.id, event: resetEvent("events arrived faster than they were read") }
      return { events: [overtaken], next: this.#number + 1 }
    }
    const events: Array<PublishedEvent> = []
    while (events.length < limit) {
      const event = this.#at(next + events.length)
      if (event === undefined) break
      events.push(event)
    }
    return { events, next: next + events.length }
  }

  /** Event id: process, number of the event, and newest revision whose change was published by then. */
  idOf(number: number, revision: Revision): string {
    return `${this.#bootId}.${number}.${revision}`
  }

  #add(event: ControlEvent, revision: Revision): BufferedEvent {
    this.#number += 1
    const buffered = { id: this.idOf(this.#number, revision), event, revision }
    this.#ring[this.#number % this.#size] = buffered
    return buffered
  }

  #at(number: number): BufferedEvent | undefined {
    return number > this.#number - this.#size && number <= this.#number ? this.#ring[number % this.#size] : undefined
  }
}

/** Marks a place in the stream before which events may be missing. */
export const resetEvent = (reason: string): ControlEvent => ({ event: "reset", data: { reason } })

function parseId(text: string) {
  const [, number, revision] = /^[^.]{1,64}\.(\d{1,15})\.(\d{1,15})$/u.exec(text) ?? []
  return number === undefined ? undefined : { number: Number(number), revision: Revision.make(Number(revision)) }
}
