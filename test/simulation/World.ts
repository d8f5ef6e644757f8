/** Simulated time: what is to happen, in order; and what is found out on the way. */
import { Random } from "./Random.ts"

/** Something that is to happen at its time, unless it is called off. */
export interface ScheduledEvent {
  readonly at: number
  readonly seq: number
  run: (() => void) | undefined
}

/** A promise of the protocol that was broken. */
export interface Violation {
  readonly rule: string
  readonly text: string
  /** Milliseconds since the simulation began. */
  readonly at: number
}

/** A part of the world with work of its own to do at this very moment: gives back whether it did any. */
export interface Worker {
  work(): boolean
}

/** More turns than any real work takes at one instant. */
const maxTurns = 20_000

export class World {
  /** Milliseconds since the simulation began; whole. */
  now = 0
  /** How often a connection breaks between two frames that were written in one go. */
  breakProbability = 0
  readonly random: Random
  readonly counters = new Map<string, number>()
  /** The first one found; the simulation ends with it. */
  violation: Violation | undefined
  /** Lines for people; only kept when somebody wants to read them. */
  readonly lines: Array<string> | undefined
  readonly #planned: Array<ScheduledEvent> = []
  readonly #workers: Array<Worker> = []
  #seq = 0
  #hash = 0

  constructor(seed: number, traced: boolean) {
    this.random = new Random(seed)
    this.lines = traced ? [] : undefined
  }

  /** `run` after so many milliseconds; those of one moment in the order in which they were planned. */
  after(delay: number, run: () => void): ScheduledEvent {
    const planned: ScheduledEvent = { at: this.now + delay, seq: this.#seq += 1, run }
    push(this.#planned, planned)
    return planned
  }

  addWorker(worker: Worker): void {
    this.#workers.push(worker)
  }

  removeWorker(worker: Worker): void {
    const index = this.#workers.indexOf(worker)
    if (index >= 0) this.#workers.splice(index, 1)
  }

  /** Lets this much time pass. */
  advance(millis: number): void {
    const until = this.now + millis
    while (this.violation === undefined) {
      this.#settle()
      const next = this.#planned[0]
      if (next === undefined || next.at > until) break
      this.now = next.at
      // All of one moment, so that things can happen at the same time.
      while (this.#planned[0] !== undefined && this.#planned[0].at <= this.now) pop(this.#planned)?.run?.()
    }
    this.now = Math.max(this.now, until)
  }

  trace(text: () => string): void {
    if (this.lines === undefined) return
    this.lines.push(`${String(this.now).padStart(7)}  ${text()}`)
  }

  /** What two runs of one seed must have in common goes in here: a number for each thing that happened. */
  addToHash(kind: number, value: number): void {
    this.#hash = Math.imul(this.#hash ^ (kind * 31 + value + this.now), 0x01000193) ^ (this.#hash >>> 15)
  }

  get hash(): number {
    return this.#hash >>> 0
  }

  count(name: string): void {
    this.counters.set(name, (this.counters.get(name) ?? 0) + 1)
  }

  violate(rule: string, text: string): void {
    this.violation ??= { rule, text, at: this.now }
    this.trace(() => `VIOLATION ${rule}: ${text}`)
  }

  #settle(): void {
    for (let turn = 0; turn < maxTurns; turn++) {
      let worked = false
      for (let index = 0; index < this.#workers.length; index++) {
        if (this.#workers[index]?.work() === true) worked = true
      }
      if (!worked) return
    }
    this.violate("I17 total function", "work goes on for ever at one moment")
  }
}

/** A binary heap, by time, then by the order of planning. */
function push(heap: Array<ScheduledEvent>, item: ScheduledEvent): void {
  let index = heap.length
  heap.push(item)
  while (index > 0) {
    const above = (index - 1) >> 1
    const parent = heap[above]
    if (parent === undefined || !isBefore(item, parent)) break
    heap[index] = parent
    index = above
  }
  heap[index] = item
}

function pop(heap: Array<ScheduledEvent>): ScheduledEvent | undefined {
  const first = heap[0]
  const last = heap.pop()
  if (first === undefined || last === undefined || heap.length === 0) return first
  let index = 0
  while (true) {
    let below = 2 * index + 1
    let child = heap[below]
    const right = heap[below + 1]
    if (child === undefined) break
    if (right !== undefined && isBefore(right, child)) {
      below += 1
      child = right
    }
    if (!isBefore(child, last)) break
    heap[index] = child
    index = below
  }
  heap[index] = last
  return first
}

function isBefore(a: ScheduledEvent, b: ScheduledEvent): boolean {
  return a.at < b.at || a.at === b.at && a.seq < b.seq
}
