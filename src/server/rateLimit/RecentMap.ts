/** A map that drops entries not written for a given time. */

/**
 * Keeps an entry for at least `ttlMillis` after it was set. Entries live in two generations. A `set` at least `ttlMillis` after
 * the young generation began makes it the old one and drops the previous old one. So with regular writes an entry is dropped
 * after about `2 * ttlMillis`, and without writes nothing is dropped. A caller that needs an exact age checks it itself.
 */
export class RecentMap<Value> {
  readonly #ttlMillis: number
  readonly #maxPerGeneration: number
  #young = new Map<string, Value>()
  #old = new Map<string, Value>()
  /** Time at which the young generation began, in the milliseconds that `set` is called with. */
  #youngSince = Number.NEGATIVE_INFINITY

  /** `maxPerGeneration`: half of the maximum number of entries. Above it the old generation is dropped, whatever its age. */
  constructor(ttlMillis: number, maxPerGeneration = Number.POSITIVE_INFINITY) {
    this.#ttlMillis = ttlMillis
    this.#maxPerGeneration = maxPerGeneration
  }

  /** The value set last. */
  get(key: string): Value | undefined {
    return this.#young.get(key) ?? this.#old.get(key)
  }

  /** Sets a value at the moment `at`, in monotonic milliseconds. */
  set(key: string, value: Value, at: number): void {
    if (at - this.#youngSince >= this.#ttlMillis || this.#young.size >= this.#maxPerGeneration) {
      this.#old = this.#young
      this.#young = new Map()
      this.#youngSince = at
    }
    this.#young.set(key, value)
  }

  /** Entries in both generations; a key that is in both counts twice. */
  get size(): number {
    return this.#young.size + this.#old.size
  }
}
