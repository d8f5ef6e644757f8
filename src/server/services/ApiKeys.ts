/** Creates, lists and revokes API keys. A client has at most two, so that keys can be rotated. */
import { hashApiKey, mintApiKey } from "#crypto/apiKeys.ts"
import { Network } from "#feed/Network.ts"
import { type ClientRef, KeyId, type Revision } from "#schema/ids.ts"
import type { Key } from "#schema/resources.ts"
import { ApiKeyStore, type OwnerNotFound, type TooManyKeys } from "#store/ApiKeyStore.ts"
import type { StoreUnavailable } from "#store/sql.ts"
import { Context, Effect, Layer, Redacted, Schema } from "effect"

export { OwnerNotFound, TooManyKeys } from "#store/ApiKeyStore.ts"

/** The client has no live key with this id. */
export class KeyNotFound extends Schema.TaggedError<KeyNotFound>()("KeyNotFound", { id: KeyId }) {
  override get message(): string {
    return `API key ${this.id} does not exist`
  }
}

export class ApiKeys extends Context.Service<ApiKeys, {
  /** Lists the live keys, oldest first. */
  list(owner: ClientRef): Effect.Effect<ReadonlyArray<Key>, OwnerNotFound | StoreUnavailable>
  /** Creates a second key, while the first stays valid. The key is returned here only. */
  create(owner: ClientRef): Effect.Effect<
    { readonly id: KeyId; readonly apiKey: Redacted.Redacted; readonly revision: Revision },
    OwnerNotFound | TooManyKeys | StoreUnavailable
  >
  /** Revokes a key. From now on no login succeeds with it, and its session is being closed when this returns. */
  revoke(owner: ClientRef, id: KeyId): Effect.Effect<Revision, OwnerNotFound | KeyNotFound | StoreUnavailable>
}>()("control/services/ApiKeys") {
  static readonly layer = Layer.effect(
    ApiKeys,
    Effect.gen(function*() {
      const store = yield* ApiKeyStore
      const network = yield* Network

      const create = Effect.fn("ApiKeys.create")(function*(owner: ClientRef) {
        const { apiKey, keyId: id } = mintApiKey(owner.type)
        const { revision } = yield* store.create(owner, { id, hash: hashApiKey(Redacted.value(apiKey)) })
        return { id, apiKey, revision }
      })

      const revoke = Effect.fn("ApiKeys.revoke")(function*(owner: ClientRef, id: KeyId) {
        const { revision, value: removed } = yield* store.remove(owner, id)
        if (!removed) return yield* new KeyNotFound({ id })
        yield* Effect.ignore(network.catchUp)
        return revision
      })

      return ApiKeys.of({ list: store.list, create, revoke })
    })
  )
}
