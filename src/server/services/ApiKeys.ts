/** API keys as operators ask for them: two at most for each client, so that one can take over from the other. */
import { hashApiKey, mintApiKey } from "#crypto/apiKeys.ts"
import { Network } from "#feed/Network.ts"
import { type ClientRef, KeyId, type Revision } from "#schema/ids.ts"
import type { Key } from "#schema/resources.ts"
import { ApiKeyStore, type OwnerNotFound, type TooManyKeys } from "#store/ApiKeyStore.ts"
import type { StoreUnavailable } from "#store/sql.ts"
import { Context, Effect, Layer, Redacted, Schema } from "effect"

export { OwnerNotFound, TooManyKeys } from "#store/ApiKeyStore.ts"

/** The client has no live key of this id. */
export class KeyNotFound extends Schema.TaggedError<KeyNotFound>()("KeyNotFound", { id: KeyId }) {
  override get message(): string {
    return `there is no key ${this.id}`
  }
}

export class ApiKeys extends Context.Service<ApiKeys, {
  /** The live ones, the oldest first. */
  list(owner: ClientRef): Effect.Effect<ReadonlyArray<Key>, OwnerNotFound | StoreUnavailable>
  /** A new one beside the one that is live; nobody can read it again. */
  create(owner: ClientRef): Effect.Effect<
    { readonly id: KeyId; readonly apiKey: Redacted.Redacted; readonly revision: Revision },
    OwnerNotFound | TooManyKeys | StoreUnavailable
  >
  /** From now on it opens nothing, and the session that it has opened is being closed when this returns. */
  revoke(owner: ClientRef, id: KeyId): Effect.Effect<Revision, OwnerNotFound | KeyNotFound | StoreUnavailable>
}>()("control/services/ApiKeys") {
  static readonly layer = Layer.effect(
    ApiKeys,
    Effect.gen(function*() {
      const store = yield* ApiKeyStore
      const network = yield* Network

      const create = Effect.fn("Keys.create")(function*(owner: ClientRef) {
        const { apiKey, keyId: id } = mintApiKey(owner.type)
        const { revision } = yield* store.create(owner, { id, hash: hashApiKey(Redacted.value(apiKey)) })
        return { id, apiKey, revision }
      })

      const revoke = Effect.fn("Keys.revoke")(function*(owner: ClientRef, id: KeyId) {
        const { revision, value: removed } = yield* store.remove(owner, id)
        if (!removed) return yield* new KeyNotFound({ id })
        yield* Effect.ignore(network.catchUp)
        return revision
      })

      return ApiKeys.of({ list: store.list, create, revoke })
    })
  )
}
