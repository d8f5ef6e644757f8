/** The authenticated clients of this process, by session, indexed by client. */
import { type CloseReason } from "#schema/codes.ts"
import type { ClientRef, KeyId, Revision, SessionId } from "#schema/ids.ts"
import { nameOf } from "#store/PresenceStore.ts"
import { Context, Effect, HashMap, Layer, type MutableRef, Option, Ref, type Scope } from "effect"

export type Level = "plain"

export interface Client {
  readonly session: SessionId
  readonly ref: ClientRef
  readonly keyId: KeyId
  /** The protocol level that was agreed on. */
  readonly level: Level
  /** When it last said something valid, in `monotonicMillis`; written by its own connection only. */
  readonly lastSeen: MutableRef.MutableRef<number>
  /** The newest revision whose effect on this client's view was handed to its socket; written by its own connection only. */
  readonly sent: MutableRef.MutableRef<Revision>
  /** Starts the close handshake at once; the session ends when the socket does, two seconds later at the latest. */
  close(reason: CloseReason): Effect.Effect<void>
  /** A WebSocket ping: keeps the way through NATs open, and lets the kernel find a peer that is gone. */
  readonly ping: Effect.Effect<void>
}

interface Members {
  readonly bySession: HashMap.HashMap<SessionId, Client>
  readonly byClient: HashMap.HashMap<string, Client>
}

export class ClientRegistry extends Context.Service<ClientRegistry, {
  /** Makes the client a member until the scope closes. The session that it replaces, if there is one, is closed (4409). */
  admit(client: Client): Effect.Effect<void, never, Scope.Scope>
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

      const admit = Effect.fn("ClientRegistry.admit")(function*(client: Client) {
        const replaced = yield* Effect.acquireRelease(
          Ref.modify(members, (current) => [HashMap.get(current.byClient, nameOf(client.ref)), enter(current, client)]),
          () => Ref.update(members, (current) => leave(current, client))
        )
        if (Option.isSome(replaced)) yield* replaced.value.close("replaced")
      })

      const find = (ref: ClientRef) =>
        Effect.map(Ref.get(members), (current) => HashMap.get(current.byClient, nameOf(ref)))

      const all = Effect.map(Ref.get(members), (current) => HashMap.toValues(current.bySession))
      const newest = Effect.map(Ref.get(members), (current) => HashMap.toValues(current.byClient))

      return ClientRegistry.of({ admit, find, all, newest })
    })
  )
}

function enter(members: Members, client: Client): Members {
  return {
    bySession: HashMap.set(members.bySession, client.session, client),
    byClient: HashMap.set(members.byClient, nameOf(client.ref), client)
  }
}

/** A replaced session that ends late takes only itself away, not the one that replaced it. */
function leave(members: Members, client: Client): Members {
  const name = nameOf(client.ref)
  const newest = HashMap.get(members.byClient, name)
  const isNewest = Option.isSome(newest) && newest.value.session === client.session
  return {
    bySession: HashMap.remove(members.bySession, client.session),
    byClient: isNewest ? HashMap.remove(members.byClient, name) : members.byClient
  }
}
