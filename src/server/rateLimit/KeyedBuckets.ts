/** One token bucket for each key; buckets that are full again are dropped. */
import { type Bucket, fullBucket, type Rate, refillMillis, tryAcquire } from "./TokenBucket.ts"
import { RecentMap } from "./RecentMap.ts"

export class KeyedBuckets {
  readonly #rate: Rate
  readonly #buckets: RecentMap<Bucket>

  constructor(rate: Rate) {
    this.#rate = rate
    this.#buckets = new RecentMap(refillMillis(rate))
  }

  /** Spends `amount` tokens of this key's bucket; false if fewer are available. `at` is in monotonic milliseconds. */
  tryAcquire(key: string, at: number, amount = 1): boolean {
    const bucket = this.#buckets.get(key) ?? fullBucket(this.#rate, at)
    const next = tryAcquire(bucket, this.#rate, at, amount)
    this.#buckets.set(key, next ?? bucket, at)
    return next !== undefined
  }

  /** Milliseconds without a new attempt after which the whole burst is available. */
  get refillMillis(): number {
    return refillMillis(this.#rate)
  }
}
