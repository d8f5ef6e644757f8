/**
 * A token bucket: a burst may be spent at once, and comes back at an even rate. Pure: time comes in, in milliseconds of one
 * monotonic clock. In any stretch of time no more is spent than the burst and what comes back meanwhile.
 */

export interface Rate {
  readonly perSecond: number
  readonly burst: number
}

export interface Bucket {
  /** What was left at the moment `at`; below zero for who was charged more than there was. */
  readonly tokens: number
  readonly at: number
}

export const full = ({ burst }: Rate, at: number): Bucket => ({ tokens: burst, at })

/** What may be spent at this moment. A clock that steps back gives nothing, and takes nothing. */
export const left = (bucket: Bucket, { burst, perSecond }: Rate, at: number): number =>
  Math.min(burst, bucket.tokens + Math.max(0, at - bucket.at) * perSecond / 1_000)

/** Spends so much if it is there; undefined, and nothing is spent, if it is not. */
export const tryTake = (bucket: Bucket, rate: Rate, at: number, amount = 1): Bucket | undefined => {
  const tokens = left(bucket, rate, at)
  return tokens < amount ? undefined : { tokens: tokens - amount, at: Math.max(at, bucket.at) }
}

/** Spends also what is not there, because it has happened already: who is charged has to rest for it. */
export const charge = (bucket: Bucket, rate: Rate, at: number, amount: number): Bucket => ({
  tokens: left(bucket, rate, at) - amount,
  at: Math.max(at, bucket.at)
})

/** For how many milliseconds after its moment nothing may be spent. */
export const restMillis = ({ tokens }: Bucket, { perSecond }: Rate): number =>
  tokens >= 0 ? 0 : Math.ceil(-tokens * 1_000 / perSecond)

/** After so many milliseconds without spending, any bucket that is not in debt is as good as a new one. */
export const fullAfterMillis = ({ burst, perSecond }: Rate): number => burst * 1_000 / perSecond
