/** What is remembered of those who were heard of lately, by name. */

/**
 * A value stays for at least so long after it was noted. Two generations: whoever is noted is in the young one; with the first
 * note after so long it becomes the old one, and the old one is forgotten whole. So where notes come all the time a value goes
 * after about twice as long, and where none comes nothing does: who asks judges a value's age.
 */
export class RecentMap<Value> {
  readonly #forMillis: number
  readonly #most: number
  #young = new Map<string, Value>()
  #old = new Map<string, Value>()
  #since = Number.NEGATIVE_INFINITY

  /** Twice as many as `most` are remembered at most; beyond that those go who were noted longest ago, however lately that was. */
  constructor(forMillis: number, most = Number.POSITIVE_INFINITY) {
    this.#forMillis = forMillis
    this.#most = most
  }

  /** What was noted last. */
  get(name: string): Value | undefined {
    return this.#young.get(name) ?? this.#old.get(name)
  }

  note(name: string, value: Value, at: number): void {
    if (at - this.#since >= this.#forMillis || this.#young.size >= this.#most) {
      this.#old = this.#young
      this.#young = new Map()
      this.#since = at
    }
    this.#young.set(name, value)
  }

  get size(): number {
    return this.#young.size + this.#old.size
  }
}
