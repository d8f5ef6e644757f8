/** From a key to a member: whose key it is, a session that is claimed durably, a place in the registry; and back. */
import { Authenticator } from "#clients/Authenticator.ts"
import { type Client, ClientRegistry } from "#clients/ClientRegistry.ts"
import { Deliveries } from "#clients/Deliveries.ts"
import { monotonicMillisUnsafe } from "#time/monotonic.ts"
import { NodeLease } from "#cluster/NodeLease.ts"
import { Presence } from "#clients/Presence.ts"
import { connectionOf } from "#events/clientEvents.ts"
import { keysToStore } from "#clients/wireguardKeys.ts"
import { Events } from "#events/Events.ts"
import { Network } from "#feed/Network.ts"
import { nameOf, Revision } from "#schema/ids.ts"
import type { Action, Event } from "#session/Action.ts"
import { Clock, Effect, Fiber } from "effect"
import type { Connection, Member } from "./ConnectionState.ts"

export const makeLogin = Effect.gen(function*() {
  const authenticator = yield* Authenticator
  const presence = yield* Presence
  const registry = yield* ClientRegistry
  const deliveries = yield* Deliveries
  const network = yield* Network
  const events = yield* Events
  const nodes = yield* NodeLease
  const clock = yield* Clock.Clock

  const enter = Effect.fnUntraced(
    function*(connection: Connection, action: Extract<Action, { _tag: "Authenticate" }>) {
      const { socket, upgrade: { address, admitted, level, type } } = connection
      const { apiKey, clientVersion: version, publicIp } = action
      const key = yield* authenticator.authenticate(apiKey, type, address)
      const wireguard = yield* keysToStore(yield* network.state, key.owner, action.wireguardPublicKey)
      // Before the claim: whoever takes the client over begins after that.
      const since = monotonicMillisUnsafe(clock)
      const claim = presence.claim({
        ...key.owner,
        address,
        level,
        version,
        publicIp,
        keyId: key.id,
        ...(wireguard === undefined ? {} : { wireguard })
      })
      // Not to be interrupted between the claim and its note: what is noted is given back.
      const client = yield* Effect.uninterruptible(Effect.flatMap(claim, ({ at, session }) => {
        const lastSeen = monotonicMillisUnsafe(clock)
        const told = { session, ref: key.owner, key, level, address, since, lastSeen }
        const client: Client = { ...told, peer: socket, ...unheard }
        connection.member = { client, forwarding: undefined }
        admitted()
        events.tell({ event: "client.online", data: connectionOf(client, nodes.name) }, at)
        return Effect.as(registry.enter(client), client)
      }))
      yield* Effect.logDebug(`session ${client.session}: ${nameOf(client.ref)} from ${address} at level ${level}`)
      // Its view must not begin with keys that it does not have any more.
      if (wireguard !== undefined) yield* network.catchUp
      return { _tag: "Authenticated", client: client.ref } satisfies Event
    }
  )

  /** The claim is fenced by its session, so giving it back late harms no newer one. */
  const leave = Effect.fnUntraced(function*({ client, forwarding }: Member) {
    if (forwarding !== undefined) yield* Fiber.interrupt(forwarding)
    yield* registry.leave(client)
    deliveries.noteLeft()
    yield* Effect.logDebug(`session ${client.session}: ${nameOf(client.ref)} has left`)
    yield* presence.release(client)
  })

  return {
    /** What became of it, in the words of the session. */
    enter: (connection: Connection, action: Extract<Action, { _tag: "Authenticate" }>): Effect.Effect<Event> =>
      Effect.catchTags(enter(connection, action), {
        InvalidKey: () => Effect.succeed<Event>({ _tag: "Refused" }),
        TooManySessions: () => Effect.succeed<Event>({ _tag: "TooOften" }),
        StoreUnavailable: () => Effect.succeed<Event>({ _tag: "Unavailable" }),
        WireguardKeyRejected: ({ reason }) => Effect.succeed<Event>({ _tag: "KeyRejected", reason }),
        ClientGone: () => Effect.succeed<Event>({ _tag: "Deleted" })
      }),
    leave
  }
})

/** It has been told nothing yet, and has said nothing of it. */
const unheard = {
  sent: Revision.make(0),
  told: Revision.make(0),
  begun: Revision.make(0),
  toldBefore: undefined,
  timeline: undefined,
  applied: undefined,
  nack: undefined,
  isWritten: true
}
