/** Deletes audit entries that are older than `CONTROL_AUDIT_RETENTION`. */
import { Settings } from "#server/Settings.ts"
import { AuditStore } from "#store/AuditStore.ts"
import { Effect, Layer, Schedule } from "effect"

const trimInterval = "1 hour"

export const layer = Layer.effectDiscard(Effect.gen(function*() {
  const store = yield* AuditStore
  const { auditRetention } = yield* Settings
  yield* store.trim(auditRetention).pipe(
    Effect.repeat({ while: (removed) => removed > 0 }),
    Effect.catchCause((cause) => Effect.logWarning(`cannot trim the audit; retrying in ${trimInterval}`, cause)),
    Effect.schedule(Schedule.spaced(trimInterval)),
    Effect.forkScoped
  )
}))
