/** Time of a program: two clocks and timers. Programs take it as a parameter, so that a test can replace it. */

/** A timer that has not fired can be cancelled. Cancelling twice has no effect. */
export interface Timer {
  readonly cancel: () => void
}

export interface Clock {
  /** Milliseconds since an arbitrary moment. Never runs backwards, and does not count the time of a suspended machine. */
  readonly monotonic: () => number
  /** Milliseconds since 1970, which an administrator or NTP can change at any moment. */
  readonly wall: () => number
  /** Runs `task` once after `millis` milliseconds. The timer does not keep the process alive. */
  readonly after: (millis: number, task: () => void) => Timer
  /** Runs `task` after the input that is already waiting. */
  readonly soon: (task: () => void) => void
}

export const systemClock: Clock = {
  monotonic: () => performance.now(),
  // oxlint-disable-next-line no-restricted-properties -- the one place where programs read the wall clock
  wall: () => Date.now(),
  after: (millis, task) => {
    const timer = setTimeout(task, Math.min(Math.max(0, millis), maxTimerMillis))
    timer.unref()
    return { cancel: () => clearTimeout(timer) }
  },
  soon: (task) => void setImmediate(task)
}

/** Node fires a longer timer at once. */
const maxTimerMillis = 2 ** 31 - 1

/** RFC 3339 text of milliseconds since 1970, in UTC. */
export const timeText = (millis: number): string => new Date(millis).toISOString()

/** Milliseconds since 1970 of an RFC 3339 text or of a date in a certificate; NaN for any other text. */
export const parseTime = (text: string): number => Date.parse(text)
