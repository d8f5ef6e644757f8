/** Sliding window of received counters (RFC 6479), which accepts each counter once. */

const words = 256
const bits = words * 32

/** Accepts counters up to 8,160 below the highest one. */
export class ReplayWindow {
  /** One more than the highest accepted counter. */
  #next = 0
  readonly #seen = new Uint32Array(words)

  /** True if the counter is new and not too old. */
  isNew(counter: number): boolean {
    if (counter >= this.#next) return true
    if (this.#next - counter > bits - 32) return false
    return (this.#seen[Math.floor(counter / 32) % words]! & (1 << (counter % 32))) === 0
  }

  /** Records an authenticated counter for which `isNew` is true. Returns true if it is the highest so far. */
  accept(counter: number): boolean {
    const word = Math.floor(counter / 32)
    const isHighest = counter >= this.#next
    if (isHighest) {
      const from = Math.floor((this.#next - 1) / 32)
      for (let i = Math.max(from + 1, word - words + 1); i <= word; i += 1) this.#seen[i % words] = 0
      this.#next = counter + 1
    }
    this.#seen[word % words]! |= 1 << (counter % 32)
    return isHighest
  }
}
