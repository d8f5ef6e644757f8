/** Reproducible random numbers: the same seed and index give the same sequence. */

export interface SeededRandom {
  /** A number from 0 up to, but not including, 1. */
  readonly next: () => number
  /** An integer from 0 to `below` - 1. */
  readonly int: (below: number) => number
  /** True with this probability. */
  readonly chance: (probability: number) => boolean
  /** A random item. */
  readonly pick: <A>(items: ReadonlyArray<A>) => A
}

/** Mulberry32, seeded from both numbers. */
export const seededRandom = (seed: number, index: number): SeededRandom => {
  let state = (Math.imul(seed, 0x9e3779b1) ^ Math.imul(index + 1, 0x85ebca6b)) >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
  const int = (below: number) => Math.floor(next() * below)
  return {
    next,
    int,
    chance: (probability) => next() < probability,
    pick: (items) => items[int(items.length)] as never
  }
}
