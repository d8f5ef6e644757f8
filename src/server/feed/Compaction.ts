/** Compacts the change log every 10 minutes, so that its size stays bounded. */
import { ChangeLog } from "#store/ChangeLog.ts"
import { Effect, Layer, Schedule } from "effect"

const compactionInterval = "10 minutes"

export const layer = Layer.effectDiscard(Effect.gen(function*() {
  const log = yield* ChangeLog
  yield* log.compact.pipe(
    Effect.repeat({ while: (removed) => removed > 0 }),
    Effect.catchCause((cause) =>
      Effect.logWarning(`cannot compact the change log; retrying in ${compactionInterval}`, cause)
    ),
    Effect.schedule(Schedule.spaced(compactionInterval)),
    Effect.forkScoped
  )
}))
