/** When how many frames were received: written on the hot path, so flat arrays that grow. */

export interface Spread {
  readonly count: number
  readonly first: number
  readonly p50: number
  readonly p99: number
  readonly last: number
}

export class Receipts {
  #times = new Float64Array(4_096)
  #frames = new Uint32Array(4_096)
  #events = 0
  /** Frames in all. */
  count = 0

  clear(): void {
    this.#events = 0
    this.count = 0
  }

  add(time: number, frames: number): void {
    if (this.#events === this.#times.length) this.#grow()
    this.#times[this.#events] = time
    this.#frames[this.#events] = frames
    this.#events += 1
    this.count += frames
  }

  /** In milliseconds after `since`; each frame counts once. What was added is in order of time already. */
  spread(since: number): Spread {
    const at = (share: number): number => {
      let left = Math.max(1, Math.ceil(share * this.count))
      for (let index = 0; index < this.#events; index += 1) {
        left -= this.#frames[index] ?? 0
        if (left <= 0) return (this.#times[index] ?? 0) - since
      }
      return Number.NaN
    }
    return { count: this.count, first: at(0), p50: at(0.5), p99: at(0.99), last: at(1) }
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
