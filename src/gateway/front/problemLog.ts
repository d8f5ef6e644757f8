/** Limits repeated log lines about the same trouble. */
import type { Clock } from "#processes/clock.ts"

/** Logs a sentence, unless one of the same kind was logged less than a minute ago. */
export type LogProblem = (kind: string, message: string) => void

const quietMillis = 60_000
const maxKinds = 1_000

export const problemLog = (clock: Clock, onProblem: (message: string) => void): LogProblem => {
  const loggedAt = new Map<string, number>()
  return (kind, message) => {
    const now = clock.monotonic()
    if (now - (loggedAt.get(kind) ?? -Infinity) < quietMillis) return
    if (loggedAt.size >= maxKinds) loggedAt.clear()
    loggedAt.set(kind, now)
    onProblem(message)
  }
}
