/** Decides whether and when a client reconnects, by the table of close codes in protocol.md. Pure. */

export type ReconnectDecision =
  | { readonly _tag: "Stop" }
  | { readonly _tag: "Wait"; readonly millis: number }

export interface Disconnect {
  /** The close code, the HTTP status (400 to 599) of a rejected upgrade, or 1006 if there was neither. */
  readonly code: number
  /** Attempts since the last good connection; 0 for the first. */
  readonly attempt: number
  /** The delay that the server requested: `reconnectAfterMs` of `drain`, `retryAfterMs` of `auth_error`, or `Retry-After` of a rejected upgrade. */
  readonly retryAfterMillis?: number | undefined
  /** The previous connection ended in a drain too. A server must not keep clients in a loop of immediate reconnects. */
  readonly isRepeatedDrain?: boolean
  /** Whether to go on after a rejected API key (4401). */
  readonly retriesAuth?: boolean
  /** Uniform random number from 0 to 1, for jitter. */
  readonly random: number
}

const secondMillis = 1_000
const minuteMillis = 60_000

/** The longest delay that a server may request. */
const maxRetryAfterMillis = 10 * minuteMillis

/**
 * Codes after which the client stops: a new attempt cannot succeed, or would take the session from a newer client. 400 and
 * 1010 mean that the server does not support control.v1.
 */
const permanentCloseCodes: ReadonlySet<number> = new Set([4400, 4403, 4409, 4410, 400, 1010])

/** Decides on the next attempt: `Stop`, or `Wait` for a number of milliseconds. */
export const reconnectDelay = (
  { attempt, code, isRepeatedDrain = false, random, retriesAuth = false, retryAfterMillis }: Disconnect
): ReconnectDecision => {
  if (permanentCloseCodes.has(code)) return { _tag: "Stop" }
  if (code === 4401 && !retriesAuth) return { _tag: "Stop" }
  // An operator may still issue the key, so the client tries every 1 to 5 minutes.
  if (code === 4401) return wait(minuteMillis + random * 4 * minuteMillis)
  if (code === 4429) {
    const requested = retryAfterMillis !== undefined && retryAfterMillis >= 0 ? retryAfterMillis : minuteMillis
    return wait(Math.min(requested, maxRetryAfterMillis) + random * 10 * secondMillis)
  }
  const jitter = random * Math.min(minuteMillis, secondMillis * 2 ** attempt)
  if (retryAfterMillis === undefined || !(retryAfterMillis >= 0)) return wait(jitter)
  const requestedMillis = Math.min(retryAfterMillis, maxRetryAfterMillis)
  // `drain` spreads clients over time itself. `Retry-After` is the same for all clients, so that jitter is added.
  return wait(code === 1012 && !isRepeatedDrain ? requestedMillis : requestedMillis + jitter)
}

/** Resets the number of attempts after a connection that was ready for at least a minute; otherwise keeps it. */
export const attemptsAfterConnection = (attempts: number, readyMillis: number): number =>
  readyMillis >= minuteMillis ? 0 : attempts

function wait(millis: number): ReconnectDecision {
  return { _tag: "Wait", millis: Math.round(millis) }
}
