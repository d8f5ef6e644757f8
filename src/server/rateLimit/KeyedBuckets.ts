/** A token bucket for each name; who has a full one again is forgotten. */
import { type Bucket, full, fullAfterMillis, type Rate, tryTake } from "./TokenBucket.ts"
import { RecentMap } from "./RecentMap.ts"

export class KeyedBuckets {
  readonly #rate: Rate
  readonly #lately: RecentMap<Bucket>

  constructor(rate: Rate) {
    this.#rate = rate
    this.#lately = new RecentMap(fullAfterMillis(rate))
  }

  /** Spends one token of this name; false if there is none. */
  take(name: string, at: number): boolean {
    const bucket = this.#lately.get(name) ?? full(this.#rate, at)
    const next = tryTake(bucket, this.#rate, at)
    this.#lately.note(name, next ?? bucket, at)
    return next !== undefined
  }
}
