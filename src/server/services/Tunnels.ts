/** Tunnels as operators ask for them. A row that is written here is pushed by itself: nobody needs to be told. */
import { newId } from "#crypto/identifiers.ts"
import { type Revision, TunnelId } from "#schema/ids.ts"
import {
  GivenTunnelId,
  NewTunnel,
  type Page,
  type PageRequest,
  type Tunnel,
  type TunnelPatch
} from "#schema/resources.ts"
import type { StoreUnavailable } from "#store/sql.ts"
import { type DomainTaken, type NoSuchAgent, TunnelStore } from "#store/TunnelStore.ts"
import type { UnreadableRow } from "#store/UnreadableRow.ts"
import { Context, Effect, Layer, Option, Schema } from "effect"

export { DomainTaken, NoSuchAgent } from "#store/TunnelStore.ts"

export class TunnelNotFound extends Schema.TaggedError<TunnelNotFound>()("TunnelNotFound", { id: Schema.String }) {
  override get message(): string {
    return `there is no tunnel ${this.id}`
  }
}

/** The tunnel that an application gave cannot be one. */
export class InvalidTunnel extends Schema.TaggedError<InvalidTunnel>()("InvalidTunnel", { reason: Schema.String }) {
  override get message(): string {
    return `not a tunnel: ${this.reason}`
  }
}

/** A tunnel as an application has it, not checked yet; without an `id` it is a new one. */
export interface GivenTunnel {
  readonly id?: string
  readonly agentId: string
  readonly domain: string
  readonly target: string
  readonly enabled?: boolean
}

export class Tunnels extends Context.Service<Tunnels, {
  /** The row, with the revision that every connected client is brought up to. */
  create(tunnel: NewTunnel): Effect.Effect<Tunnel, DomainTaken | NoSuchAgent | StoreUnavailable>
  find(id: TunnelId): Effect.Effect<Tunnel, TunnelNotFound | UnreadableRow | StoreUnavailable>
  list(request: PageRequest): Effect.Effect<Page<Tunnel>, StoreUnavailable>
  /** A patch that changes nothing gives no new revision. */
  update(
    id: TunnelId,
    patch: TunnelPatch
  ): Effect.Effect<Tunnel, TunnelNotFound | DomainTaken | NoSuchAgent | UnreadableRow | StoreUnavailable>
  remove(id: TunnelId): Effect.Effect<Revision, TunnelNotFound | StoreUnavailable>
  /**
   * Makes it so, for applications that embed Control: a tunnel with an id is created or brought to this, one without is
   * new. What is so already gives no new revision.
   */
  ensure(
    tunnel: GivenTunnel
  ): Effect.Effect<Tunnel, InvalidTunnel | DomainTaken | NoSuchAgent | UnreadableRow | StoreUnavailable>
  /** Gone, whether or not it was there; gives a revision from which on no view has it. */
  ensureRemoved(id: string): Effect.Effect<Revision, InvalidTunnel | StoreUnavailable>
}>()("control/services/Tunnels") {
  static readonly layer = Layer.effect(
    Tunnels,
    Effect.gen(function*() {
      const store = yield* TunnelStore

      const create = Effect.fn("Tunnels.create")((tunnel: NewTunnel) =>
        store.create({ ...tunnel, id: TunnelId.make(newId()) })
      )

      const found = (id: TunnelId) => (tunnel: Option.Option<Tunnel>) =>
        Option.isSome(tunnel) ? Effect.succeed(tunnel.value) : Effect.fail(new TunnelNotFound({ id }))

      const find = Effect.fn("Tunnels.find")((id: TunnelId) => Effect.flatMap(store.find(id), found(id)))

      const update = Effect.fn("Tunnels.update")((id: TunnelId, patch: TunnelPatch) =>
        Effect.flatMap(store.update(id, patch), found(id))
      )

      const remove = Effect.fn("Tunnels.remove")(function*(id: TunnelId) {
        const { removed, revision } = yield* store.remove(id)
        if (!removed) return yield* new TunnelNotFound({ id })
        return revision
      })

      const ensure = Effect.fn("Tunnels.ensure")(function*({ id, ...given }: GivenTunnel) {
        const tunnel = yield* decodeNewTunnel(given).pipe(
          Effect.mapError(({ message }) => new InvalidTunnel({ reason: message }))
        )
        if (id === undefined) return yield* create(tunnel)
        return yield* store.put({ ...tunnel, id: yield* checked(id) })
      })

      const ensureRemoved = Effect.fn("Tunnels.ensureRemoved")(function*(id: string) {
        const { revision } = yield* store.remove(yield* checked(id))
        return revision
      })

      return Tunnels.of({ create, find, list: store.list, update, remove, ensure, ensureRemoved })
    })
  )
}

const decodeNewTunnel = Schema.decodeUnknownEffect(NewTunnel, { errors: "all" })
const isTunnelId = Schema.is(GivenTunnelId)

const checked = (id: string): Effect.Effect<TunnelId, InvalidTunnel> =>
  isTunnelId(id) ? Effect.succeed(id) : Effect.fail(new InvalidTunnel({ reason: "its id is not 1 to 128 characters" }))
