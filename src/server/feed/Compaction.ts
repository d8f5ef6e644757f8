/** The scheduled fiber that keeps the log of changes from growing without end. */
import { ChangeLog } from "#store/ChangeLog.ts"
import { Effect, Layer, Schedule } from "effect"

const every = "10 minutes"

export const layer = Layer.effectDiscard(Effect.gen(function*() {
  const log = yield* ChangeLog
  yield* log.compact.pipe(
    Effect.repeat({ while: (removed) => removed > 0 }),
    Effect.catchCause((cause) => Effect.logWarning("the log of changes could not be trimmed; trying again", cause)),
    Effect.schedule(Schedule.spaced(every)),
    Effect.forkScoped
  )
}))
