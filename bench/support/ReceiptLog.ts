/** Log of receipt times and frame counts. Uses flat growing arrays because the hot path writes it. */

export interface ReceiptTimes {
  readonly count: number
  readonly first: number
  readonly p50: number
  readonly p99: number
  readonly last: number
}

export class ReceiptLog {
  #times = new Float64Array(4_096)
  #frames = new Uint32Array(4_096)
  #entries = 0
  /** Total number of frames. */
  count = 0

  clear(): void {
    this.#entries = 0
    this.count = 0
  }

  add(time: number, frames: number): void {
    if (this.#entries === this.#times.length) this.#grow()
    this.#times[this.#entries] = time
    this.#frames[this.#entries] = frames
    this.#entries += 1
    this.count += frames
  }

  /** Quantiles in milliseconds after `since`, weighted by frames. Relies on entries being added in order of time. */
  times(since: number): ReceiptTimes {
    const timeOfShare = (share: number): number => {
      let remaining = Math.max(1, Math.ceil(share * this.count))
      for (let index = 0; index < this.#entries; index += 1) {
        remaining -= this.#frames[index] ?? 0
        if (remaining <= 0) return (this.#times[index] ?? 0) - since
      }
      return Number.NaN
    }
    return {
      count: this.count,
      first: timeOfShare(0),
      p50: timeOfShare(0.5),
      p99: timeOfShare(0.99),
      last: timeOfShare(1)
    }
  }

  #grow(): void {
    const times = new Float64Array(this.#times.length * 2)
    times.set(this.#times)
    this.#times = times
    const frames = new Uint32Array(this.#frames.length * 2)
    frames.set(this.#frames)
    this.#frames = frames
  }
}
