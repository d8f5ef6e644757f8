/** A token bucket: what may be spent at once, and how soon it is there again. */
export class Bucket {
  readonly #perMilli: number
  readonly #burst: number
  #tokens: number
  #at: number

  /** Full at the moment `at`, in milliseconds of one monotonic clock. */
  constructor(perSecond: number, burst: number, at: number) {
    this.#perMilli = perSecond / 1_000
    this.#burst = burst
    this.#tokens = burst
    this.#at = at
  }

  /** Spends, also what is not there; says for how many milliseconds nothing may be spent any more. */
  take(amount: number, at: number): number {
    this.#tokens = Math.min(this.#burst, this.#tokens + (at - this.#at) * this.#perMilli) - amount
    this.#at = at
    return this.#tokens >= 0 ? 0 : Math.ceil(-this.#tokens / this.#perMilli)
  }
}
