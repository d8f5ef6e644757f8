/** Who is still being answered: looked at every second, so that the answers to a revoked token end. */
import type { Role } from "#schema/adminTokens.ts"
import type { AdminTokenStore } from "#store/AdminTokenStore.ts"
import { Deferred, Effect, Schedule, type Scope } from "effect"

const lookEvery = "1 second"

interface Held {
  readonly hash: string
  readonly role: Role
  readonly ended: Deferred.Deferred<void>
  holders: number
}

/** One look for all tokens that are in use; none while no answer takes long. While the database is away nothing ends. */
export const makeHolders = Effect.fnUntraced(function*(store: AdminTokenStore["Service"]) {
  /** By role and hash: whoever was let in before its role was changed by SQL must not be lost sight of for who comes after. */
  const held = new Map<string, Held>()

  const look = Effect.gen(function*() {
    const before = [...held.values()]
    if (before.length === 0) return
    const live = yield* store.stillLive(before.map(({ hash }) => hash))
    for (const { ended, hash, role } of before) {
      if (live.get(hash) !== role) yield* Deferred.succeed(ended, undefined)
    }
  })
  yield* look.pipe(
    Effect.catchTag("StoreUnavailable", () => Effect.void),
    Effect.catchCause((cause) => Effect.logError("admin tokens in use could not be looked at", cause)),
    Effect.repeat(Schedule.spaced(lookEvery)),
    Effect.forkScoped
  )

  const enter = (hash: string, role: Role) => {
    const there = held.get(keyOf({ hash, role }))
    const entry = there !== undefined && !Deferred.isDoneUnsafe(there.ended)
      ? there
      : { hash, role, ended: Deferred.makeUnsafe<void>(), holders: 0 }
    entry.holders += 1
    held.set(keyOf(entry), entry)
    return entry
  }

  const leave = (entry: Held) => {
    entry.holders -= 1
    if (entry.holders === 0 && held.get(keyOf(entry)) === entry) held.delete(keyOf(entry))
  }

  return {
    /** Ends when the token has ended or has got another role; watched until the scope ends. */
    hold: (hash: string, role: Role): Effect.Effect<Effect.Effect<void>, never, Scope.Scope> =>
      Effect.map(
        Effect.acquireRelease(
          Effect.sync(() => enter(hash, role)),
          (entry) => Effect.sync(() => leave(entry))
        ),
        ({ ended }) => Deferred.await(ended)
      )
  }
})

const keyOf = ({ hash, role }: Pick<Held, "hash" | "role">): string => `${role}:${hash}`
