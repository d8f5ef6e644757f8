/** Counts what is in use at the same time, up to a limit. */
export class Quota {
  readonly #limit: number
  #used = 0
  /** Requests that exceeded the limit. */
  refused = 0

  constructor(limit: number) {
    this.#limit = limit
  }

  get used(): number {
    return this.#used
  }

  tryAcquire(): boolean {
    if (this.#used >= this.#limit) {
      this.refused += 1
      return false
    }
    this.#used += 1
    return true
  }

  release(): void {
    this.#used -= 1
  }
}
