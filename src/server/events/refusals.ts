/** Counts refused logins, admin tokens, certificates and connections, and logs at most one line of each reason in 10 s. */
import type { ClientType } from "#schema/ids.ts"
import { monotonicMillis } from "#time/monotonic.ts"
import { Effect, Metric } from "effect"

export interface Refusal {
  readonly kind: "login" | "token" | "certificate" | "connection"
  /** A word of the code, never text of a caller, because each one is remembered. */
  readonly reason: string
  readonly type: ClientType | "operator" | "unknown"
  /** Completes the log line. Names the address and the next step, never a secret. */
  readonly text: string
}

const intervalMillis = 10_000

/** Returns a function that records a refusal. A line also names the number of refusals that were not logged before it. */
export const makeRefusals = () => {
  const lastByReason = new Map<string, { readonly loggedAt: number; skipped: number }>()

  return Effect.fnUntraced(function*({ kind, reason, text, type }: Refusal) {
    yield* Metric.update(Metric.withAttributes(refusals, { kind, reason, type }), 1)
    const now = yield* monotonicMillis
    const last = lastByReason.get(reason)
    if (last !== undefined && now - last.loggedAt < intervalMillis) {
      last.skipped += 1
      return
    }
    lastByReason.set(reason, { loggedAt: now, skipped: 0 })
    const skipped = last?.skipped ?? 0
    yield* Effect.logWarning(
      `refused a ${kind} ${text}${skipped === 0 ? "" : `; ${skipped} more since the line before`}`
    )
  })
}

const refusals = Metric.counter("control_refused_total", {
  description: "Refused logins, admin tokens, certificates and connections by reason and type of the sender",
  incremental: true
})
