/** How much one connection may say. Pure: time comes in with each message, in milliseconds of one monotonic clock. */
import { type Bucket, full, left, type Rate, tryTake as takeOf } from "#rateLimit/TokenBucket.ts"

/** Bytes of the largest message before `auth`: a key, an address and a place, and room to spare. */
export const largestFirstMessage = 8_192

/** This many faulty messages within a minute are no accident. */
const faultsPerMinute = 20
const minute = 60_000

/** How often a client may have a config because it asks for one. */
export const resyncEverySeconds = 5

/** What a connection has used of its limits. */
export interface Usage {
  /** A token for each message. */
  readonly messages: Bucket
  /** Messages dropped since the client was last within its limits for a while. */
  readonly dropped: number
  /** When the last faulty messages came; at most as many as the limit. */
  readonly faults: ReadonlyArray<number>
  /** When the last `resync` was let through. */
  readonly resyncedAt: number | undefined
}

export const unused = (limit: Rate, at: number): Usage => ({
  messages: full(limit, at),
  dropped: 0,
  faults: [],
  resyncedAt: undefined
})

/** `pass`: within the limits. `drop`: over them. `stop`: a whole burst was dropped before the client slowed down. */
export type Verdict = "pass" | "drop" | "stop"

/** What was dropped is forgotten when half of the burst is free again: a token now and then does not make a flood a conversation. */
export const take = (usage: Usage, limit: Rate, at: number): readonly [Verdict, Usage] => {
  const before = left(usage.messages, limit, at) >= limit.burst / 2 ? 0 : usage.dropped
  const messages = takeOf(usage.messages, limit, at)
  if (messages !== undefined) return ["pass", { ...usage, messages, dropped: before }]
  const dropped = before + 1
  return [dropped > limit.burst ? "stop" : "drop", { ...usage, dropped }]
}

/** Counts a faulty message; true when it was one too many within a minute. */
export const fault = (usage: Usage, at: number): readonly [boolean, Usage] => {
  const faults = [...usage.faults.filter((earlier) => at - earlier < minute), at]
  return [faults.length >= faultsPerMinute, { ...usage, faults }]
}

/** Whether a `resync` is let through now. */
export const mayResync = (usage: Usage, at: number): readonly [boolean, Usage] =>
  usage.resyncedAt !== undefined && at - usage.resyncedAt < resyncEverySeconds * 1_000
    ? [false, usage]
    : [true, { ...usage, resyncedAt: at }]
