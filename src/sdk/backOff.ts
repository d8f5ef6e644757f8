/** Whether and when a client comes back, by the table of close codes in protocol.md. Pure: chance comes in as a number. */

export type Next =
  | { readonly _tag: "Stop" }
  | { readonly _tag: "Wait"; readonly millis: number }

export interface Lost {
  /** A close code, the HTTP status (400 to 599) of a refused upgrade, or 1006 when there was neither. */
  readonly code: number
  /** How many attempts were made since the last good connection; 0 for the first. */
  readonly attempt: number
  /** What the server asked for: `reconnectAfterMs` of `drain`, or `Retry-After` of a refused upgrade. */
  readonly afterMillis?: number | undefined
  /** A drain right after a drain: whoever does that in a loop is not to be followed in one. */
  readonly isDrainAgain?: boolean
  /** 0 to 1, uniform. */
  readonly random: number
}

const second = 1_000
const minute = 60_000

/** No server may ask a client to stay away for longer. */
const longestHint = 10 * minute

/**
 * After these the same client would fare no better, or would fight with a newer session. 400 and 1010: the server does not
 * speak control.v1.
 */
const finalCodes: ReadonlySet<number> = new Set([4400, 4403, 4409, 4410, 400, 1010])

export const backOff = ({ afterMillis, attempt, code, isDrainAgain = false, random }: Lost): Next => {
  if (finalCodes.has(code)) return { _tag: "Stop" }
  // The key may be right again one day, when an operator has made it so: one try every one to five minutes.
  if (code === 4401) return wait(minute + random * 4 * minute)
  if (code === 4429) return wait(minute + random * 10 * second)
  const jitter = random * Math.min(minute, second * 2 ** attempt)
  if (afterMillis === undefined || !(afterMillis >= 0)) return wait(jitter)
  const hint = Math.min(afterMillis, longestHint)
  // `drain` gives each client a moment of its own; `Retry-After` is the same for all.
  return wait(code === 1012 && !isDrainAgain ? hint : hint + jitter)
}

/** The attempts that still count when a connection is lost: a minute of being ready made it a good one. */
export const attemptsThatCount = (attempts: number, readyMillis: number): number => readyMillis >= minute ? 0 : attempts

function wait(millis: number): Next {
  return { _tag: "Wait", millis: Math.round(millis) }
}
