/** The events of this process that are still known, and where a reader of them goes on. Plain, and nothing in it waits. */
import type { ControlEvent } from "#schema/events.ts"
import { Revision } from "#schema/ids.ts"

/** An event with the id from which its reader can go on. */
export interface PublishedEvent {
  readonly id: string
  readonly event: ControlEvent
}

/** Where a reader begins: with the event of the number `next`. */
export interface Cursor {
  /** The id of the place. */
  readonly from: string
  readonly next: number
  /** Events may be missing before it: changes after one revision up to another, and whatever else has happened. */
  readonly missed: { readonly after: Revision; readonly upTo: Revision } | undefined
}

interface Happened extends PublishedEvent {
  /** The newest revision of a change that was told by then. */
  readonly revision: Revision
}

export class EventBuffer {
  readonly #boot: string
  readonly #size: number
  /** The event of each number at its remainder: what is added takes the place of the oldest. */
  readonly #ring: Array<Happened> = []
  #number = 0
  #newest: Happened

  /** Keeps so many events; `boot` names this process among all that ever were. */
  constructor(boot: string, size: number) {
    this.#boot = boot
    this.#size = size
    this.#newest = this.#add({ event: "reset", data: { reason: "the server has started" } }, Revision.make(0))
  }

  /** The number of the newest event. */
  get newest(): number {
    return this.#number
  }

  add(event: ControlEvent): void {
    this.#newest = this.#add(event, event.event === "change" ? event.data.revision : this.#newest.revision)
  }

  /** Changes up to this revision were not told one by one. */
  addReload(revision: Revision): void {
    this.#newest = this.#add(
      resetEvent("everything was read anew: changes before this were not told one by one"),
      revision
    )
  }

  /** Behind this event, or without one behind all that has happened. */
  cursorAfter(lastEventId: string | undefined): Cursor {
    const next = this.#number + 1
    if (lastEventId === undefined) return { from: this.#newest.id, next, missed: undefined }
    const last = readId(lastEventId)
    if (last !== undefined && this.#at(last.number)?.id === lastEventId) {
      return { from: lastEventId, next: last.number + 1, missed: undefined }
    }
    const upTo = this.#newest.revision
    const after = last === undefined || last.revision > upTo ? upTo : last.revision
    return { from: this.idOf(this.#number, after), next, missed: { after, upTo } }
  }

  /** At most so many events from this number on, and the number to go on with. Who is passed over goes on with what is new. */
  page(next: number, most: number): { readonly events: ReadonlyArray<PublishedEvent>; readonly next: number } {
    if (next <= this.#number - this.#size) {
      const passedOver = { id: this.#newest.id, event: resetEvent("events came faster than they were read") }
      return { events: [passedOver], next: this.#number + 1 }
    }
    const told: Array<PublishedEvent> = []
    while (told.length < most) {
      const happened = this.#at(next + told.length)
      if (happened === undefined) break
      told.push(happened)
    }
    return { events: told, next: next + told.length }
  }

  /** Of which process, which of its events, and up to which revision changes had been told by then. */
  idOf(number: number, revision: Revision): string {
    return `${this.#boot}.${number}.${revision}`
  }

  #add(event: ControlEvent, revision: Revision): Happened {
    this.#number += 1
    const happened = { id: this.idOf(this.#number, revision), event, revision }
    this.#ring[this.#number % this.#size] = happened
    return happened
  }

  #at(number: number): Happened | undefined {
    return number > this.#number - this.#size && number <= this.#number ? this.#ring[number % this.#size] : undefined
  }
}

export const resetEvent = (reason: string): ControlEvent => ({ event: "reset", data: { reason } })

function readId(text: string) {
  const [, number, revision] = /^[^.]{1,64}\.(\d{1,15})\.(\d{1,15})$/u.exec(text) ?? []
  return number === undefined ? undefined : { number: Number(number), revision: Revision.make(Number(revision)) }
}
