/** Simulated time: runs scheduled events in order, and records the outcome. */
import { Random } from "./Random.ts"

/** An event at a simulated time; `run` is undefined after cancellation. */
export interface ScheduledEvent {
  readonly at: number
  readonly seq: number
  run: (() => void) | undefined
}

/** A broken guarantee of the protocol. */
export interface Violation {
  readonly rule: string
  readonly text: string
  /** Milliseconds since the start of the simulation. */
  readonly at: number
}

/** A process that may have work at the current instant. `work` returns whether it did any. */
export interface Worker {
  work(): boolean
}

/** More turns than any correct process needs at one instant. */
const maxTurns = 20_000

export class World {
  /** Integer milliseconds since the start of the simulation. */
  now = 0
  /** Probability that a connection breaks between two frames of one write. */
  breakProbability = 0
  readonly random: Random
  readonly counters = new Map<string, number>()
  /** The first violation, which ends the simulation. */
  violation: Violation | undefined
  /** Trace lines; undefined unless the trace was requested. */
  readonly lines: Array<string> | undefined
  readonly #events: Array<ScheduledEvent> = []
  readonly #workers: Array<Worker> = []
  #seq = 0
  #hash = 0

  constructor(seed: number, traced: boolean) {
    this.random = new Random(seed)
    this.lines = traced ? [] : undefined
  }

  /** Runs `run` after `delay` milliseconds. Events of one instant run in the order of scheduling. */
  after(delay: number, run: () => void): ScheduledEvent {
    const event: ScheduledEvent = { at: this.now + delay, seq: this.#seq += 1, run }
    push(this.#events, event)
    return event
  }

  addWorker(worker: Worker): void {
    this.#workers.push(worker)
  }

  removeWorker(worker: Worker): void {
    const index = this.#workers.indexOf(worker)
    if (index >= 0) this.#workers.splice(index, 1)
  }

  /** Lets this much simulated time pass. */
  advance(millis: number): void {
    const until = this.now + millis
    while (this.violation === undefined) {
      this.#runWorkers()
      const next = this.#events[0]
      if (next === undefined || next.at > until) break
      this.now = next.at
      // All events of one instant run before the processes do, so that events can be simultaneous.
      while (this.#events[0] !== undefined && this.#events[0].at <= this.now) pop(this.#events)?.run?.()
    }
    this.now = Math.max(this.now, until)
  }

  trace(text: () => string): void {
    if (this.lines === undefined) return
    this.lines.push(`${String(this.now).padStart(7)}  ${text()}`)
  }

  /** Adds one event to the hash of the run. Two runs of one seed must have equal hashes. */
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

  #runWorkers(): void {
    for (let turn = 0; turn < maxTurns; turn++) {
      let worked = false
      for (let index = 0; index < this.#workers.length; index++) {
        if (this.#workers[index]?.work() === true) worked = true
      }
      if (!worked) return
    }
    this.violate("I17 total function", "work never ends at one instant")
  }
}

/** A binary heap, ordered by time and then by scheduling order. */
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
