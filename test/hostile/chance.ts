/** Chance that can be had again: what a seed and an index give is always the same. */

export interface Chance {
  /** 0 to 1. */
  readonly next: () => number
  /** 0 to `below` - 1. */
  readonly int: (below: number) => number
  readonly is: (probability: number) => boolean
  readonly of: <A>(items: ReadonlyArray<A>) => A
}

/** Mulberry32, mixed from both numbers. */
export const chance = (seed: number, index: number): Chance => {
  let state = (Math.imul(seed, 0x9e3779b1) ^ Math.imul(index + 1, 0x85ebca6b)) >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
  const int = (below: number) => Math.floor(next() * below)
  return { next, int, is: (probability) => next() < probability, of: (items) => items[int(items.length)] as never }
}
