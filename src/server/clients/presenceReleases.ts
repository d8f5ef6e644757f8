/** Sessions that have ended, on their way to the database: tried again until it has taken them, and told when it has. */
import { Events } from "#events/Events.ts"
import type { SessionId } from "#schema/ids.ts"
import type { Ended, PresenceStore } from "#store/PresenceStore.ts"
import { StoreUnavailable } from "#store/sql.ts"
import { Effect, Queue, Schedule } from "effect"
import { NodeLease } from "#cluster/NodeLease.ts"
import { type Connected, connectionOf } from "#events/clientEvents.ts"

/** A session to be released. One that was not told to have come, since its claim got no answer, is told only if it had. */
export interface Leaving extends Connected {
  readonly nack: Ended["nack"]
  readonly wasTold: boolean
}

/** Kept by session until the database has taken them: as many as there were clients, however long it is away. */
export const makeReleases = Effect.fnUntraced(function*(store: PresenceStore["Service"]) {
  const events = yield* Events
  const { name } = yield* NodeLease
  const ended = new Map<SessionId, Leaving>()
  const wake = yield* Queue.sliding<void>(1)

  const releaseEnded = Effect.gen(function*() {
    const held = [...ended.values()]
    if (held.length === 0) return
    const { at, busy, gone, taken } = yield* store.release(
      held.map(({ nack, ref, session }) => ({ ...ref, session, nack }))
    )
    for (const leaving of held) {
      const { session, wasTold } = leaving
      if (busy.has(session)) continue
      ended.delete(session)
      if (taken.has(session) || gone.has(session) && !wasTold) continue
      events.tell({ event: "client.offline", data: connectionOf(leaving, name) }, at)
    }
    if (busy.size > 0) return yield* new StoreUnavailable({ reason: "somebody has locked the rows of some clients" })
  })
  // Registered before the fiber, so that it runs after the fiber has been stopped: what a drain has ended is written at last.
  // A write that was under way then may still hold the rows for a moment.
  yield* Effect.addFinalizer(() =>
    Effect.retry(releaseEnded, Schedule.spaced("50 millis")).pipe(
      Effect.timeout("3 seconds"),
      Effect.catchCause((cause) =>
        Effect.logWarning("some clients are left marked online; the next sweep mends it", cause)
      )
    )
  )
  yield* Queue.take(wake).pipe(
    Effect.andThen(Effect.retry(releaseEnded, Schedule.spaced("1 second"))),
    Effect.catchCause((cause) => Effect.logError("presence could not be released", cause)),
    Effect.forever,
    Effect.forkScoped
  )

  return Effect.fnUntraced(function*(leaving: Leaving) {
    ended.set(leaving.session, leaving)
    yield* Queue.offer(wake, undefined)
  })
})
