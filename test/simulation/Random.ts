/** Reproducible random numbers: equal seeds give equal draws. */

export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = mix(seed)
  }

  /** A number in [0, 1), from mulberry32. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }

  /** An integer in [0, below). */
  int(below: number): number {
    return Math.floor(this.next() * below)
  }

  /** An integer in [from, to]. */
  between(from: number, to: number): number {
    return from + this.int(to - from + 1)
  }

  chance(probability: number): boolean {
    return this.next() < probability
  }

  /** One of the items; undefined when there are none. */
  pick<A>(items: ReadonlyArray<A>): A | undefined {
    return items[this.int(items.length)]
  }

  /** One of the items, with probability proportional to its weight. */
  weighted<A>(items: ReadonlyArray<readonly [weight: number, item: A]>): A | undefined {
    let left = this.next() * items.reduce((sum, [weight]) => sum + weight, 0)
    for (const [weight, item] of items) {
      left -= weight
      if (left < 0) return item
    }
    return items.at(-1)?.[1]
  }

  /** An independent sequence: draws elsewhere do not change it. */
  static of(seed: number, label: number): Random {
    return new Random(mix(seed) ^ mix(label + 0x5eed))
  }
}

/** Mixes the bits, so that neighbouring seeds give unrelated draws. */
function mix(seed: number): number {
  let h = seed | 0
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return h ^ (h >>> 16)
}
