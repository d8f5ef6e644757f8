/** The authenticated clients of this process, by session, indexed by client. */
import type { Key } from "#network/NetworkState.ts"
import type { NotedNack } from "#schema/clientMessages.ts"
import type { CloseReason } from "#schema/codes.ts"
import { type ClientRef, nameOf, type Revision, type SessionId, type Timeline } from "#schema/ids.ts"
import type { Level } from "#schema/protocol.ts"
import { Context, Effect, HashMap, Layer, Option, Ref } from "effect"

/** The other end of a connection, as far as those who watch over clients need it. */
export interface Peer {
  /** Begins the close handshake at once; the session ends when the socket does, two seconds later at the latest. */
  close(reason: CloseReason): void
  /** A WebSocket ping: keeps the way through NATs open, and lets the kernel find a peer that is gone. */
  ping(): void
  /** Whether it has been given more than it reads. Then nothing is read from it either, and it has a deadline of its own. */
  isBackedUp(): boolean
}

export interface Client {
  readonly session: SessionId
  readonly ref: ClientRef
  /** What it authenticated with. */
  readonly key: Key
  readonly level: Level
  readonly peer: Peer
  /** When its session began, in `monotonicMillis`. */
  readonly since: number
  /** When it last said something valid, in `monotonicMillis`; written by its own connection only. */
  lastSeen: number
  /** From where it connected. */
  readonly address: string
  /** The newest revision whose effect on this client's view was handed to its socket; written by Deliveries only. */
  sent: Revision
  /** The place of the last message about its view that it was sent; at most `sent`. As the next two, written by Deliveries only. */
  told: Revision
  /** The history that these places are of, and where its view began on this connection. */
  timeline: Timeline | undefined
  begun: Revision
  /** The last place that it was told of the history before, as long as what it says may still mean that one. */
  toldBefore: Revision | undefined
  /** Everything up to here is in force at the client, as it said; undefined as long as it has said nothing here. */
  applied: Revision | undefined
  /** What it could not apply, until it acknowledges that revision or a later one. */
  nack: NotedNack | undefined
  /** Whether the database knows all that; made true by Presence. */
  isWritten: boolean
}

interface Members {
  readonly bySession: HashMap.HashMap<SessionId, Client>
  readonly byClient: HashMap.HashMap<string, Client>
}

export class ClientRegistry extends Context.Service<ClientRegistry, {
  /** Makes the client a member, to be ended by `leave`. The session that it replaces, if there is one, is closed (4409). */
  enter(client: Client): Effect.Effect<void>
  leave(client: Client): Effect.Effect<void>
  /** The newest session of this client. */
  find(ref: ClientRef): Effect.Effect<Option.Option<Client>>
  /** Every session, replaced ones that are still closing included. */
  readonly all: Effect.Effect<ReadonlyArray<Client>>
  /** One session for each client: its newest. */
  readonly newest: Effect.Effect<ReadonlyArray<Client>>
}>()("control/clients/ClientRegistry") {
  static readonly layer = Layer.effect(
    ClientRegistry,
    Effect.gen(function*() {
      const members = yield* Ref.make<Members>({ bySession: HashMap.empty(), byClient: HashMap.empty() })

      const enter = (client: Client) =>
        Effect.map(
          Ref.modify(
            members,
            (current) => [HashMap.get(current.byClient, nameOf(client.ref)), entered(current, client)]
          ),
          (replaced) => Option.isSome(replaced) ? replaced.value.peer.close("replaced") : undefined
        )

      const leave = (client: Client) => Ref.update(members, (current) => left(current, client))

      const find = (ref: ClientRef) =>
        Effect.map(Ref.get(members), (current) => HashMap.get(current.byClient, nameOf(ref)))

      const all = Effect.map(Ref.get(members), (current) => HashMap.toValues(current.bySession))
      const newest = Effect.map(Ref.get(members), (current) => HashMap.toValues(current.byClient))

      return ClientRegistry.of({ enter, leave, find, all, newest })
    })
  )
}

function entered(members: Members, client: Client): Members {
  return {
    bySession: HashMap.set(members.bySession, client.session, client),
    byClient: HashMap.set(members.byClient, nameOf(client.ref), client)
  }
}

/** A replaced session that ends late takes only itself away, not the one that replaced it. */
function left(members: Members, client: Client): Members {
  const name = nameOf(client.ref)
  const newest = HashMap.get(members.byClient, name)
  const isNewest = Option.isSome(newest) && newest.value.session === client.session
  return {
    bySession: HashMap.remove(members.bySession, client.session),
    byClient: isNewest ? HashMap.remove(members.byClient, name) : members.byClient
  }
}
