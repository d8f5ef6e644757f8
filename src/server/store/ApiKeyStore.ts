/** Table of API keys, stored as hashes. */
import { type ClientRef, ClientType, type KeyId } from "#schema/ids.ts"
import { Key } from "#schema/resources.ts"
import { Context, Effect, Layer, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { revisionedTransaction, type StoreUnavailable, type WithRevision, withStoreErrors } from "./sql.ts"

/** No agent or gateway has this id. */
export class OwnerNotFound extends Schema.TaggedError<OwnerNotFound>()("OwnerNotFound", {
  type: ClientType,
  id: Schema.String
}) {}

/** The client has two live keys. Two are enough to change from one key to the next. */
export class TooManyKeys extends Schema.TaggedError<TooManyKeys>()("TooManyKeys", {}) {
  override get message(): string {
    return "the client has two live keys, which is the maximum; revoke one of them first"
  }
}

const maxLiveKeys = 2

/** Reads and writes the API keys of agents and gateways. */
export class ApiKeyStore extends Context.Service<ApiKeyStore, {
  /** The keys of this client, oldest first. */
  list(owner: ClientRef): Effect.Effect<ReadonlyArray<Key>, OwnerNotFound | StoreUnavailable>
  create(
    owner: ClientRef,
    key: { readonly id: KeyId; readonly hash: string }
  ): Effect.Effect<WithRevision<void>, OwnerNotFound | TooManyKeys | StoreUnavailable>
  /** Deletes the key; false if this client has no key with this id. */
  remove(owner: ClientRef, id: KeyId): Effect.Effect<WithRevision<boolean>, OwnerNotFound | StoreUnavailable>
}>()("control/store/ApiKeyStore") {
  static readonly layer = Layer.effect(
    ApiKeyStore,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const ownerColumn = ({ type }: ClientRef) => sql(type === "agent" ? "agent_id" : "gateway_id")

      const requireOwner = Effect.fnUntraced(function*(owner: ClientRef, lock: "" | "for no key update") {
        const rows = yield* sql`select from ${sql(owner.type === "agent" ? "agents" : "gateways")}
          where id = ${owner.id} ${sql.literal(lock)}`
        if (rows.length === 0) return yield* new OwnerNotFound({ type: owner.type, id: owner.id })
      })

      const list = Effect.fn("ApiKeyStore.list")(function*(owner: ClientRef) {
        yield* withStoreErrors(requireOwner(owner, ""))
        return decodeKeys(
          yield* withStoreErrors(sql`select id, ${sql.literal(timeColumns)} from api_keys
          where ${ownerColumn(owner)} = ${owner.id} order by created_at, id`)
        )
      })

      /** Locks the row of the owner, so that the second of two concurrent requests counts the key of the first. */
      const create = Effect.fn("ApiKeyStore.create")(
        function*(owner: ClientRef, { hash, id }: { readonly id: KeyId; readonly hash: string }) {
          const insert = Effect.gen(function*() {
            yield* requireOwner(owner, "for no key update")
            const live = yield* sql`select id from api_keys where ${ownerColumn(owner)} = ${owner.id}`
            if (live.length >= maxLiveKeys) return yield* new TooManyKeys()
            yield* sql`insert into api_keys (id, ${ownerColumn(owner)}, hash) values (${id}, ${owner.id}, ${hash})`
          })
          return yield* revisionedTransaction(sql)(insert)
        }
      )

      const remove = Effect.fn("ApiKeyStore.remove")(function*(owner: ClientRef, id: KeyId) {
        const removed = Effect.gen(function*() {
          yield* requireOwner(owner, "")
          const rows = yield* sql`
            delete from api_keys where id = ${id} and ${ownerColumn(owner)} = ${owner.id} returning id`
          return rows.length > 0
        })
        return yield* revisionedTransaction(sql)(removed)
      })

      return ApiKeyStore.of({ list, create, remove })
    })
  )
}

const timeColumns = `control_iso(created_at) as "createdAt", control_iso(last_used_at) as "lastUsedAt"`

const decodeKeys = Schema.decodeUnknownSync(Schema.Array(Key))
