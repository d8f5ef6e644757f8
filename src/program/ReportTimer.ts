/** Calls a function soon after changes, and from time to time without one. */
import type { Clock, Timer } from "#processes/clock.ts"

export class ReportTimer {
  readonly #clock: Clock
  readonly #gatherMillis: number
  readonly #intervalMillis: number
  readonly #report: () => void
  #gathering: Timer | undefined
  #interval: Timer

  /** Changes during `gatherMillis` share one report. */
  constructor(clock: Clock, gatherMillis: number, intervalMillis: number, report: () => void) {
    this.#clock = clock
    this.#gatherMillis = gatherMillis
    this.#intervalMillis = intervalMillis
    this.#report = report
    this.#interval = this.#schedule()
  }

  changed(): void {
    this.#gathering ??= this.#clock.after(this.#gatherMillis, () => {
      this.#gathering = undefined
      this.#report()
    })
  }

  close(): void {
    this.#gathering?.cancel()
    this.#interval.cancel()
  }

  #schedule(): Timer {
    return this.#clock.after(this.#intervalMillis, () => {
      this.#report()
      this.#interval = this.#schedule()
    })
  }
}
