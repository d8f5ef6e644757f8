/** Limits on the messages of one connection. Pure: each call passes the time in milliseconds of one monotonic clock. */
import { availableTokens, type Bucket, fullBucket, type Rate, tryAcquire } from "#rateLimit/TokenBucket.ts"

/** Maximum bytes of a message before `auth`: an API key, an address, a position and some reserve. */
export const maxAuthMessageBytes = 8_192

/** A client that sends this many faulty messages within a minute is closed. */
const maxFaultsPerMinute = 20
const minuteMillis = 60_000

/** Minimum seconds between two configs that a client asks for with `resync`. */
export const resyncIntervalSeconds = 5

/** Consumption of a connection's limits. */
export interface Usage {
  /** Each message spends one token. */
  readonly messages: Bucket
  /** Messages dropped since half of the burst was last available. */
  readonly dropped: number
  /** Times of the faulty messages of the last minute. */
  readonly faults: ReadonlyArray<number>
  /** Time of the last `resync` that was answered with a config. */
  readonly resyncedAt: number | undefined
}

export const initialUsage = (limit: Rate, at: number): Usage => ({
  messages: fullBucket(limit, at),
  dropped: 0,
  faults: [],
  resyncedAt: undefined
})

/** `pass`: within the limit. `drop`: over the limit. `close`: a whole burst was dropped before the client slowed down. */
export type Verdict = "pass" | "drop" | "close"

/**
 * Counts one message. The number of dropped messages is reset when half of the burst is available again. Single tokens
 * refilled during a flood must not count as slowing down.
 */
export const countMessage = (usage: Usage, limit: Rate, at: number): readonly [Verdict, Usage] => {
  const before = availableTokens(usage.messages, limit, at) >= limit.burst / 2 ? 0 : usage.dropped
  const messages = tryAcquire(usage.messages, limit, at)
  if (messages !== undefined) return ["pass", { ...usage, messages, dropped: before }]
  const dropped = before + 1
  return [dropped > limit.burst ? "close" : "drop", { ...usage, dropped }]
}

/** Counts a faulty message; true when the client has reached `maxFaultsPerMinute`. */
export const countFault = (usage: Usage, at: number): readonly [boolean, Usage] => {
  const faults = [...usage.faults.filter((earlier) => at - earlier < minuteMillis), at]
  return [faults.length >= maxFaultsPerMinute, { ...usage, faults }]
}

/** Whether a `resync` is answered with a config now; if so, counts it. */
export const tryResync = (usage: Usage, at: number): readonly [boolean, Usage] =>
  usage.resyncedAt !== undefined && at - usage.resyncedAt < resyncIntervalSeconds * 1_000
    ? [false, usage]
    : [true, { ...usage, resyncedAt: at }]
