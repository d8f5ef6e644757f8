/** Watches admin tokens of open requests, so that streams end after a revocation. */
import type { Role } from "#schema/adminTokens.ts"
import type { AdminTokenStore } from "#store/AdminTokenStore.ts"
import { Intervals } from "#time/Intervals.ts"
import { Deferred, Effect, Schedule, type Scope } from "effect"

interface ActiveToken {
  readonly hash: string
  readonly role: Role
  readonly ended: Deferred.Deferred<void>
  requestCount: number
}

/**
 * One query checks all tokens in use. Without open requests no query is sent. While the database is unreachable no request
 * ends.
 */
export const makeActiveTokens = Effect.fnUntraced(function*(store: AdminTokenStore["Service"]) {
  /**
   * Keyed by role and hash: after a change of the role by SQL, requests of the old role and of the new role are watched
   * separately.
   */
  const activeTokens = new Map<string, ActiveToken>()

  const { adminTokenCheckInterval } = yield* Intervals

  const endInvalidTokens = Effect.gen(function*() {
    const watched = [...activeTokens.values()]
    if (watched.length === 0) return
    const live = yield* store.findLiveRoles(watched.map(({ hash }) => hash))
    for (const { ended, hash, role } of watched) {
      if (live.get(hash) !== role) yield* Deferred.succeed(ended, undefined)
    }
  })
  yield* endInvalidTokens.pipe(
    Effect.catchTag("StoreUnavailable", () => Effect.void),
    Effect.catchCause((cause) => Effect.logError("cannot check the admin tokens of open requests", cause)),
    Effect.repeat(Schedule.spaced(adminTokenCheckInterval)),
    Effect.forkScoped
  )

  const acquire = (hash: string, role: Role) => {
    const existing = activeTokens.get(mapKey({ hash, role }))
    const entry = existing !== undefined && !Deferred.isDoneUnsafe(existing.ended)
      ? existing
      : { hash, role, ended: Deferred.makeUnsafe<void>(), requestCount: 0 }
    entry.requestCount += 1
    activeTokens.set(mapKey(entry), entry)
    return entry
  }

  const release = (entry: ActiveToken) => {
    entry.requestCount -= 1
    if (entry.requestCount === 0 && activeTokens.get(mapKey(entry)) === entry) activeTokens.delete(mapKey(entry))
  }

  return {
    /**
     * Returns an effect that completes when the token is revoked, expires or gets another role. The watch lasts until the
     * scope closes.
     */
    watch: (hash: string, role: Role): Effect.Effect<Effect.Effect<void>, never, Scope.Scope> =>
      Effect.map(
        Effect.acquireRelease(
          Effect.sync(() => acquire(hash, role)),
          (entry) => Effect.sync(() => release(entry))
        ),
        ({ ended }) => Deferred.await(ended)
      )
  }
})

const mapKey = ({ hash, role }: Pick<ActiveToken, "hash" | "role">): string => `${role}:${hash}`
