/** Releases ended sessions in the database, retried until each is written, then announced. */
import { NodeLease } from "#cluster/NodeLease.ts"
import { type ConnectedSession, onlineData } from "#events/clientEvents.ts"
import { Events } from "#events/Events.ts"
import type { SessionId } from "#schema/ids.ts"
import type { PresenceStore } from "#store/PresenceStore.ts"
import type { EndedSession } from "#store/presenceTypes.ts"
import { StoreUnavailable } from "#store/sql.ts"
import { Effect, Queue, Schedule } from "effect"

/** A client whose session has ended. */
export interface EndedClient extends ConnectedSession {
  readonly nack: EndedSession["nack"]
  /** False if its `client.online` was not sent, because its claim got no answer. Then `client.offline` depends on the row. */
  readonly wasAnnounced: boolean
}

/** Keeps ended sessions until the database has taken them: at most one per session, however long the outage lasts. */
export const makeReleases = Effect.fnUntraced(function*(store: PresenceStore["Service"]) {
  const events = yield* Events
  const { name } = yield* NodeLease
  const unwritten = new Map<SessionId, EndedClient>()
  const signal = yield* Queue.sliding<void>(1)

  const releaseEnded = Effect.gen(function*() {
    const ended = [...unwritten.values()]
    if (ended.length === 0) return
    const { at, locked, takenOver, unclaimed } = yield* store.release(
      ended.map(({ nack, ref, session }) => ({ ...ref, session, nack }))
    )
    for (const client of ended) {
      const { session, wasAnnounced } = client
      if (locked.has(session)) continue
      unwritten.delete(session)
      if (takenOver.has(session) || unclaimed.has(session) && !wasAnnounced) continue
      events.broadcast({ event: "client.offline", data: onlineData(client, name) }, at)
    }
    if (locked.size > 0) {
      return yield* new StoreUnavailable({
        reason: `another transaction has locked the rows of ${locked.size} clients`
      })
    }
  })
  // Registered before the fiber, so that it runs after the fiber has stopped and writes the sessions that a drain has ended.
  // An interrupted write may still lock the rows for a moment, hence the retries.
  yield* Effect.addFinalizer(() =>
    Effect.retry(releaseEnded, Schedule.spaced("50 millis")).pipe(
      Effect.timeout("3 seconds"),
      Effect.andThen(Effect.logDebug("shutdown: ended sessions are written")),
      Effect.catchCause((cause) =>
        Effect.logWarning("cannot mark disconnected clients offline; the sweep of another node does it", cause)
      )
    )
  )
  yield* Queue.take(signal).pipe(
    Effect.andThen(Effect.retry(releaseEnded, Schedule.spaced("1 second"))),
    Effect.catchCause((cause) =>
      Effect.logError("cannot release ended sessions; retrying at the next disconnect", cause)
    ),
    Effect.forever,
    Effect.forkScoped
  )

  return Effect.fnUntraced(function*(ended: EndedClient) {
    unwritten.set(ended.session, ended)
    yield* Queue.offer(signal, undefined)
  })
})
