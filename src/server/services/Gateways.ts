/** Creates, reads, updates and deletes gateways. Only rows are written; clients learn of them by the feed. */
import { hashApiKey, mintApiKey } from "#crypto/apiKeys.ts"
import { newId } from "#crypto/identifiers.ts"
import { generateWireguardKeyPair } from "#crypto/wireguardKeys.ts"
import { Network } from "#feed/Network.ts"
import { GatewayId, type Revision } from "#schema/ids.ts"
import type { Page, PageRequest } from "#schema/pagination.ts"
import type { Gateway, GatewayPatch, NewGateway } from "#schema/resources.ts"
import type { NameTaken } from "#store/clientNames.ts"
import { GatewayStore, type NoSuchAgentInScope } from "#store/GatewayStore.ts"
import type { ClientFilter } from "#store/listFilters.ts"
import { missing } from "#store/ReferenceStore.ts"
import type { StoreUnavailable, WithRevision } from "#store/sql.ts"
import type { UnreadableRow } from "#store/UnreadableRow.ts"
import { Context, Effect, Layer, Option, Redacted, Schema } from "effect"

export type { NoSuchAgentInScope } from "#store/GatewayStore.ts"

export class GatewayNotFound extends Schema.TaggedError<GatewayNotFound>()("GatewayNotFound", {
  id: Schema.String,
  suggestion: Schema.optional(Schema.String)
}) {
  override get message(): string {
    return missing("gateway", this.id, this.suggestion)
  }
}

export class Gateways extends Context.Service<Gateways, {
  /** Creates a gateway with a WireGuard key pair and one API key. The API key is returned here only. */
  create(gateway: NewGateway): Effect.Effect<
    { readonly gateway: Gateway; readonly apiKey: Redacted.Redacted; readonly revision: Revision },
    NameTaken | NoSuchAgentInScope | StoreUnavailable
  >
  find(id: GatewayId): Effect.Effect<Gateway, GatewayNotFound | UnreadableRow | StoreUnavailable>
  list(request: PageRequest, filter?: ClientFilter): Effect.Effect<Page<Gateway>, StoreUnavailable>
  update(
    id: GatewayId,
    patch: GatewayPatch
  ): Effect.Effect<
    WithRevision<Gateway>,
    GatewayNotFound | NameTaken | NoSuchAgentInScope | UnreadableRow | StoreUnavailable
  >
  /** Deletes a gateway. Its session is being closed when this returns. */
  remove(id: GatewayId): Effect.Effect<Revision, GatewayNotFound | StoreUnavailable>
}>()("control/services/Gateways") {
  static readonly layer = Layer.effect(
    Gateways,
    Effect.gen(function*() {
      const store = yield* GatewayStore
      const network = yield* Network

      const create = Effect.fn("Gateways.create")(function*({ listenPort, name, publicIp, serves }: NewGateway) {
        const { apiKey, keyId } = mintApiKey("gateway")
        const { revision, value: gateway } = yield* store.create({
          id: GatewayId.make(newId()),
          name,
          publicIp: publicIp ?? null,
          listenPort: listenPort ?? defaultListenPort,
          serves: serves ?? null,
          wireguard: generateWireguardKeyPair(),
          key: { id: keyId, hash: hashApiKey(Redacted.value(apiKey)) }
        })
        return { gateway, apiKey, revision }
      })

      const orNotFound = (id: GatewayId) => (gateway: Option.Option<Gateway>) =>
        Option.isSome(gateway) ? Effect.succeed(gateway.value) : Effect.fail(new GatewayNotFound({ id }))

      const find = Effect.fn("Gateways.find")((id: GatewayId) => Effect.flatMap(store.find(id), orNotFound(id)))

      const update = Effect.fn("Gateways.update")((id: GatewayId, patch: GatewayPatch) =>
        Effect.flatMap(
          store.update(id, patch),
          ({ revision, value }) => Effect.map(orNotFound(id)(value), (gateway) => ({ value: gateway, revision }))
        )
      )

      const remove = Effect.fn("Gateways.remove")(function*(id: GatewayId) {
        const { revision, value: removed } = yield* store.remove(id)
        if (!removed) return yield* new GatewayNotFound({ id })
        yield* Effect.ignore(network.catchUp)
        return revision
      })

      return Gateways.of({ create, find, list: store.list, update, remove })
    })
  )
}

/** UDP port of WireGuard's documentation. */
const defaultListenPort = 51_820
