/** Creates, reads, updates and deletes tunnels. Only rows are written; clients learn of them by the feed. */
import { newId } from "#crypto/identifiers.ts"
import { type Revision, TunnelId } from "#schema/ids.ts"
import type { Page, PageRequest } from "#schema/pagination.ts"
import { TunnelIdInput } from "#schema/resources.ts"
import { NewTunnel, type Tunnel, type TunnelPatch } from "#schema/tunnelResources.ts"
import type { TunnelFilter } from "#store/listFilters.ts"
import { missing } from "#store/ReferenceStore.ts"
import type { StoreUnavailable } from "#store/sql.ts"
import { type TunnelConflict, TunnelStore } from "#store/TunnelStore.ts"
import type { UnreadableRow } from "#store/UnreadableRow.ts"
import { Context, Effect, Layer, Option, Schema } from "effect"

export {
  DomainTaken,
  ListenPortTaken,
  NoSuchAgent,
  type TunnelConflict,
  TunnelNameTaken,
  TunnelRejected
} from "#store/TunnelStore.ts"

export class TunnelNotFound extends Schema.TaggedError<TunnelNotFound>()("TunnelNotFound", {
  id: Schema.String,
  suggestion: Schema.optional(Schema.String)
}) {
  override get message(): string {
    return missing("tunnel", this.id, this.suggestion)
  }
}

/** The tunnel that an embedding application passed is invalid. */
export class InvalidTunnel extends Schema.TaggedError<InvalidTunnel>()("InvalidTunnel", { reason: Schema.String }) {
  override get message(): string {
    return `invalid tunnel: ${this.reason}`
  }
}

/** Unchecked tunnel of an embedding application. Without an `id` a new tunnel is created. */
export interface TunnelInput {
  readonly id?: string
  readonly agentId: string
  /** Required for `http` and `tls`. */
  readonly domain?: string | null
  readonly target: string
  readonly enabled?: boolean
  /** Required for `tcp` and `udp`. */
  readonly name?: string | null
  readonly protocol?: "http" | "tls" | "tcp" | "udp"
  /** Public port; required for `tcp` and `udp`. */
  readonly listenPort?: number | null
  readonly proxyProtocol?: "none" | "v1" | "v2"
  readonly tls?: "verify" | "insecure"
}

export class Tunnels extends Context.Service<Tunnels, {
  /** Creates a tunnel. The returned row contains the revision of this change. */
  create(tunnel: NewTunnel): Effect.Effect<Tunnel, TunnelConflict | StoreUnavailable>
  find(id: TunnelId): Effect.Effect<Tunnel, TunnelNotFound | UnreadableRow | StoreUnavailable>
  list(request: PageRequest, filter?: TunnelFilter): Effect.Effect<Page<Tunnel>, StoreUnavailable>
  /** Updates a tunnel. A patch that changes nothing creates no revision. */
  update(
    id: TunnelId,
    patch: TunnelPatch
  ): Effect.Effect<Tunnel, TunnelNotFound | TunnelConflict | UnreadableRow | StoreUnavailable>
  remove(id: TunnelId): Effect.Effect<Revision, TunnelNotFound | StoreUnavailable>
  /**
   * Creates or updates a tunnel, for applications that embed Control. A tunnel without an id is created. An update that
   * changes nothing creates no revision.
   */
  ensure(
    tunnel: TunnelInput
  ): Effect.Effect<Tunnel, InvalidTunnel | TunnelConflict | UnreadableRow | StoreUnavailable>
  /** Deletes a tunnel; an unknown id is a no-op. Returns a revision at which no view contains the tunnel. */
  ensureRemoved(id: string): Effect.Effect<Revision, InvalidTunnel | StoreUnavailable>
}>()("control/services/Tunnels") {
  static readonly layer = Layer.effect(
    Tunnels,
    Effect.gen(function*() {
      const store = yield* TunnelStore

      const create = Effect.fn("Tunnels.create")((tunnel: NewTunnel) =>
        store.create({ ...tunnel, id: TunnelId.make(newId()) })
      )

      const orNotFound = (id: TunnelId) => (tunnel: Option.Option<Tunnel>) =>
        Option.isSome(tunnel) ? Effect.succeed(tunnel.value) : Effect.fail(new TunnelNotFound({ id }))

      const find = Effect.fn("Tunnels.find")((id: TunnelId) => Effect.flatMap(store.find(id), orNotFound(id)))

      const update = Effect.fn("Tunnels.update")((id: TunnelId, patch: TunnelPatch) =>
        Effect.flatMap(store.update(id, patch), orNotFound(id))
      )

      const remove = Effect.fn("Tunnels.remove")(function*(id: TunnelId) {
        const { removed, revision } = yield* store.remove(id)
        if (!removed) return yield* new TunnelNotFound({ id })
        return revision
      })

      const ensure = Effect.fn("Tunnels.ensure")(function*({ id, ...fields }: TunnelInput) {
        const tunnel = yield* decodeNewTunnel(fields).pipe(
          Effect.mapError(({ message }) => new InvalidTunnel({ reason: message }))
        )
        if (id === undefined) return yield* create(tunnel)
        return yield* store.put({ ...tunnel, id: yield* decodeTunnelId(id) })
      })

      const ensureRemoved = Effect.fn("Tunnels.ensureRemoved")(function*(id: string) {
        const { revision } = yield* store.remove(yield* decodeTunnelId(id))
        return revision
      })

      return Tunnels.of({ create, find, list: store.list, update, remove, ensure, ensureRemoved })
    })
  )
}

const decodeNewTunnel = Schema.decodeUnknownEffect(NewTunnel, { errors: "all" })
const isTunnelId = Schema.is(TunnelIdInput)

const decodeTunnelId = (id: string): Effect.Effect<TunnelId, InvalidTunnel> =>
  isTunnelId(id) ? Effect.succeed(id) : Effect.fail(new InvalidTunnel({ reason: "id must have 1 to 128 characters" }))
