/** Authenticated clients of this process, by session and by client. */
import type { Key } from "#network/NetworkState.ts"
import type { CloseReason } from "#schema/codes.ts"
import { type ClientRef, formatClientRef, type SessionId } from "#schema/ids.ts"
import type { Level } from "#schema/protocol.ts"
import { Context, Effect, HashMap, Layer, Option, Ref } from "effect"
import type { DeliveryState } from "./DeliveryState.ts"

/** The other end of a connection, as far as the supervision of clients needs it. */
export interface Peer {
  /** Begins the close handshake at once. The session ends when the socket is closed, at most 2 s later. */
  close(reason: CloseReason): void
  /** Sends a WebSocket ping, which keeps NAT mappings open and lets the kernel detect a dead peer. */
  ping(): void
  /**
   * Whether the unsent data exceeds the backlog limit. A client with a backlog is not read from either, and `drained` of its
   * socket sets the deadline for reading.
   */
  hasBacklog(): boolean
}

/** One authenticated session. Immutable; the connection and `Deliveries` each write the one cell that they own. */
export interface Client {
  readonly session: SessionId
  readonly ref: ClientRef
  /** Key that the client authenticated with. */
  readonly key: Key
  readonly level: Level
  readonly peer: Peer
  /** Start of the session, in `monotonicMillis`. */
  readonly since: number
  /** Network address of the client. */
  readonly address: string
  /** Written by the connection of this client only. */
  readonly lastSeen: LastSeen
  /** Written by `Deliveries` only. */
  readonly delivery: DeliveryState
}

export interface LastSeen {
  /** Arrival of the client's last valid message, in `monotonicMillis`. */
  readonly millis: number
}

interface Sessions {
  readonly bySession: HashMap.HashMap<SessionId, Client>
  readonly byClient: HashMap.HashMap<string, Client>
}

export class ClientRegistry extends Context.Service<ClientRegistry, {
  /** Adds a session until `remove`. The session of the same client that it replaces is closed with 4409. */
  add(client: Client): Effect.Effect<void>
  remove(client: Client): Effect.Effect<void>
  /** The newest session of this client. */
  find(ref: ClientRef): Effect.Effect<Option.Option<Client>>
  /** Every session, including replaced ones that are still closing. */
  readonly all: Effect.Effect<ReadonlyArray<Client>>
  /** The newest session of each client. */
  readonly newest: Effect.Effect<ReadonlyArray<Client>>
}>()("control/clients/ClientRegistry") {
  static readonly layer = Layer.effect(
    ClientRegistry,
    Effect.gen(function*() {
      const sessions = yield* Ref.make<Sessions>({ bySession: HashMap.empty(), byClient: HashMap.empty() })

      const add = (client: Client) =>
        Effect.map(
          Ref.modify(
            sessions,
            (current) => [HashMap.get(current.byClient, formatClientRef(client.ref)), withClient(current, client)]
          ),
          (replaced) => Option.isSome(replaced) ? replaced.value.peer.close("replaced") : undefined
        )

      const remove = (client: Client) => Ref.update(sessions, (current) => withoutClient(current, client))

      const find = (ref: ClientRef) =>
        Effect.map(Ref.get(sessions), (current) => HashMap.get(current.byClient, formatClientRef(ref)))

      const all = Effect.map(Ref.get(sessions), (current) => HashMap.toValues(current.bySession))
      const newest = Effect.map(Ref.get(sessions), (current) => HashMap.toValues(current.byClient))

      return ClientRegistry.of({ add, remove, find, all, newest })
    })
  )
}

function withClient(sessions: Sessions, client: Client): Sessions {
  return {
    bySession: HashMap.set(sessions.bySession, client.session, client),
    byClient: HashMap.set(sessions.byClient, formatClientRef(client.ref), client)
  }
}

/** A replaced session that ends late removes only itself, so that the session that replaced it stays findable. */
function withoutClient(sessions: Sessions, client: Client): Sessions {
  const name = formatClientRef(client.ref)
  const newest = HashMap.get(sessions.byClient, name)
  const isNewest = Option.isSome(newest) && newest.value.session === client.session
  return {
    bySession: HashMap.remove(sessions.bySession, client.session),
    byClient: isNewest ? HashMap.remove(sessions.byClient, name) : sessions.byClient
  }
}
