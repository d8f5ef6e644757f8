/** A clock of programs that a test sets. Timers fire only in `advance`. */
import type { Clock, Timer } from "#processes/clock.ts"

interface Pending {
  readonly at: number
  readonly task: () => void
}

export class ManualClock implements Clock {
  #now = 1_000_000
  readonly #pending = new Set<Pending>()

  get timers(): number {
    return this.#pending.size
  }

  readonly monotonic = (): number => this.#now
  readonly wall = (): number => this.#now

  readonly after = (millis: number, task: () => void): Timer => {
    const pending = { at: this.#now + Math.max(0, millis), task }
    this.#pending.add(pending)
    return { cancel: () => void this.#pending.delete(pending) }
  }

  readonly soon = (task: () => void): void => void setImmediate(task)

  /** Runs the timers of the next `millis` in their order. */
  advance(millis: number): void {
    const end = this.#now + millis
    while (true) {
      const next = [...this.#pending].filter(({ at }) => at <= end).toSorted((a, b) => a.at - b.at)[0]
      if (next === undefined) break
      this.#pending.delete(next)
      this.#now = Math.max(this.#now, next.at)
      next.task()
    }
    this.#now = end
  }
}
