/**
 * A token bucket: `burst` tokens can be spent at once and are refilled at `perSecond`. Pure: the caller passes the time `at` in
 * milliseconds of one monotonic clock. In any interval at most `burst` plus the tokens refilled in it are spent.
 */

/** A limit: `burst` tokens at most, refilled at `perSecond` tokens a second. */
export interface Rate {
  readonly perSecond: number
  readonly burst: number
}

export interface Bucket {
  /** Tokens at the moment `at`; negative after `spendIntoDebt` spent more than was available. */
  readonly tokens: number
  readonly at: number
}

export const fullBucket = ({ burst }: Rate, at: number): Bucket => ({ tokens: burst, at })

/** Tokens that can be spent at this moment. A clock that steps back neither adds nor removes tokens. */
export const availableTokens = (bucket: Bucket, { burst, perSecond }: Rate, at: number): number =>
  Math.min(burst, bucket.tokens + Math.max(0, at - bucket.at) * perSecond / 1_000)

/** Spends `amount` tokens and returns the new bucket; returns undefined and spends nothing if fewer are available. */
export const tryAcquire = (bucket: Bucket, rate: Rate, at: number, amount = 1): Bucket | undefined => {
  const tokens = availableTokens(bucket, rate, at)
  return tokens < amount ? undefined : { tokens: tokens - amount, at: Math.max(at, bucket.at) }
}

/** Spends `amount` tokens even if fewer are available, for work that is already done. The caller then pauses for `debtMillis`. */
export const spendIntoDebt = (bucket: Bucket, rate: Rate, at: number, amount: number): Bucket => ({
  tokens: availableTokens(bucket, rate, at) - amount,
  at: Math.max(at, bucket.at)
})

/** Milliseconds after `bucket.at` until the debt is refilled; 0 without debt. */
export const debtMillis = ({ tokens }: Bucket, { perSecond }: Rate): number =>
  tokens >= 0 ? 0 : Math.ceil(-tokens * 1_000 / perSecond)

/** Milliseconds without spending after which every bucket without debt is full. */
export const refillMillis = ({ burst, perSecond }: Rate): number => burst * 1_000 / perSecond
