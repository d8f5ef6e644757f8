/** From a key to a member: whose key it is, a session that is claimed durably, a place in the registry; and back. */
import { Authenticator } from "#clients/Authenticator.ts"
import { type Client, ClientRegistry } from "#clients/ClientRegistry.ts"
import { Deliveries } from "#clients/Deliveries.ts"
import { monotonicMillisUnsafe } from "#clients/monotonic.ts"
import { Presence } from "#clients/Presence.ts"
import { Revision } from "#schema/ids.ts"
import type { Action, Event } from "#session/Session.ts"
import { Clock, Effect, Fiber } from "effect"
import type { Connection } from "./Connection.ts"

/** What an authenticated connection holds besides its socket. */
export interface Member {
  readonly client: Client
  /** The fiber that brings the client's view up to date, from the first config on. */
  forwarding: Fiber.Fiber<void> | undefined
}

/** The only level of this version. */
const level = "plain"

export const makeMembership = Effect.gen(function*() {
  const authenticator = yield* Authenticator
  const presence = yield* Presence
  const registry = yield* ClientRegistry
  const deliveries = yield* Deliveries
  const clock = yield* Clock.Clock

  const enter = Effect.fnUntraced(
    function*(connection: Connection, { apiKey, publicIp }: Extract<Action, { _tag: "Authenticate" }>) {
      const { socket, upgrade } = connection
      const key = yield* authenticator.authenticate(apiKey, upgrade.type, upgrade.address)
      const claim = presence.claim({ ...key.owner, address: upgrade.address, level, publicIp })
      // Not to be interrupted between the claim and its note: what is noted is given back.
      return yield* Effect.uninterruptible(Effect.flatMap(claim, (session) => {
        const client: Client = {
          session,
          ref: key.owner,
          key,
          level,
          peer: socket,
          lastSeen: monotonicMillisUnsafe(clock),
          sent: none
        }
        connection.member = { client, forwarding: undefined }
        upgrade.admitted()
        return Effect.as(registry.enter(client), { _tag: "Authenticated", client: client.ref } satisfies Event)
      }))
    }
  )

  /** The claim is fenced by its session, so giving it back late harms no newer one. */
  const leave = Effect.fnUntraced(function*({ client, forwarding }: Member) {
    if (forwarding !== undefined) yield* Fiber.interrupt(forwarding)
    yield* registry.leave(client)
    deliveries.noteLeft()
    yield* presence.release({ ...client.ref, session: client.session })
  })

  return {
    /** What became of it, in the words of the session. */
    enter: (connection: Connection, action: Extract<Action, { _tag: "Authenticate" }>): Effect.Effect<Event> =>
      Effect.catchTags(enter(connection, action), {
        InvalidKey: () => Effect.succeed<Event>({ _tag: "Refused" }),
        StoreUnavailable: () => Effect.succeed<Event>({ _tag: "Unavailable" }),
        ClientGone: () => Effect.succeed<Event>({ _tag: "Deleted" })
      }),
    leave
  }
})

const none = Revision.make(0)
