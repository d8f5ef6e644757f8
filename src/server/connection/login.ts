/** Opens the session of a client after authentication, and closes it again. */
import { Authenticator } from "#clients/Authenticator.ts"
import { type Client, ClientRegistry } from "#clients/ClientRegistry.ts"
import { Deliveries } from "#clients/Deliveries.ts"
import { initialDeliveryState } from "#clients/DeliveryState.ts"
import { monotonicMillisUnsafe } from "#time/monotonic.ts"
import { NodeLease } from "#cluster/NodeLease.ts"
import { Presence } from "#clients/Presence.ts"
import { onlineData } from "#events/clientEvents.ts"
import { changesPublicIp, makeRowChangeLimit } from "#clients/rowChangeLimit.ts"
import { wireguardKeysToStore } from "#clients/wireguardKeys.ts"
import { Events } from "#events/Events.ts"
import { Network } from "#feed/Network.ts"
import { formatClientRef } from "#schema/ids.ts"
import type { Action, Event } from "#session/Action.ts"
import { Clock, Effect, Fiber } from "effect"
import type { Connection, Member } from "./ConnectionState.ts"

type Authenticate = Extract<Action, { _tag: "Authenticate" }>

export const makeLogin = Effect.gen(function*() {
  const authenticator = yield* Authenticator
  const presence = yield* Presence
  const registry = yield* ClientRegistry
  const deliveries = yield* Deliveries
  const network = yield* Network
  const events = yield* Events
  const lease = yield* NodeLease
  const clock = yield* Clock.Clock
  const limitRowChanges = makeRowChangeLimit()

  const openSession = Effect.fnUntraced(function*(connection: Connection, action: Authenticate) {
    const { socket, upgrade } = connection
    const { address, level } = upgrade
    const key = yield* authenticator.authenticate(action.apiKey, upgrade.type, address)
    const state = yield* network.state
    const wireguard = yield* wireguardKeysToStore(state, key.owner, action.wireguardPublicKey)
    if (wireguard !== undefined || changesPublicIp(state, key.owner, action.publicIp))
      yield* limitRowChanges(key.owner, address)
    // Taken before the claim, so that a session that takes this one over always begins later.
    const since = monotonicMillisUnsafe(clock)
    const claim = presence.claim({
      ...key.owner,
      address,
      level,
      version: action.clientVersion,
      publicIp: action.publicIp,
      keyId: key.id,
      ...(wireguard === undefined ? {} : { wireguard })
    })
    // Uninterruptible from the claim until `member` is set, because `close` releases only what is set there.
    const client = yield* Effect.uninterruptible(Effect.flatMap(claim, ({ at, session }) => {
      const lastSeen = { millis: monotonicMillisUnsafe(clock) }
      const identity = { session, ref: key.owner, key, level, address, since }
      const client: Client = { ...identity, peer: socket, lastSeen, delivery: initialDeliveryState() }
      connection.member = { client, lastSeen, forwarding: undefined }
      upgrade.authenticated()
      events.broadcast({ event: "client.online", data: onlineData(client, lease.name) }, at)
      return Effect.as(registry.add(client), client)
    }))
    yield* Effect.logDebug(
      `session ${client.session}: ${formatClientRef(client.ref)} from ${address} at level ${level}`
    )
    // The view must not begin with the keys that the client had before.
    if (wireguard !== undefined) yield* network.catchUp
    return { _tag: "Authenticated", client: client.ref } satisfies Event
  })

  /** The claim is fenced by its session, so that a late release does not affect a newer session. */
  const close = Effect.fnUntraced(function*({ client, forwarding }: Member) {
    if (forwarding !== undefined) yield* Fiber.interrupt(forwarding)
    yield* registry.remove(client)
    deliveries.recordDisconnect()
    yield* Effect.logDebug(`session ${client.session}: ${formatClientRef(client.ref)} has disconnected`)
    yield* presence.release(client)
  })

  return {
    /** Authenticates a client and opens its session. Returns the result as an event of the session. */
    login: (connection: Connection, action: Authenticate): Effect.Effect<Event> =>
      Effect.catchTags(openSession(connection, action), {
        InvalidApiKey: () => Effect.succeed<Event>({ _tag: "InvalidKey" }),
        TooManySessions: ({ retryAfterMs }) => Effect.succeed<Event>({ _tag: "TooManySessions", retryAfterMs }),
        StoreUnavailable: () => Effect.succeed<Event>({ _tag: "StoreUnavailable" }),
        WireguardKeyRejected: ({ reason }) => Effect.succeed<Event>({ _tag: "WireguardKeyRejected", reason }),
        ClientGone: () => Effect.succeed<Event>({ _tag: "ClientGone" })
      }),
    close
  }
})
