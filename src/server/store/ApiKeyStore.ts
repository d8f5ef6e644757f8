/** The table of API keys: hashes only. */
import { type ClientRef, ClientType, type KeyId } from "#schema/ids.ts"
import { Key } from "#schema/resources.ts"
import { Context, Effect, Layer, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { atEdge, type StoreUnavailable, write, type Written } from "./sql.ts"

/** There is no agent or gateway of this id. */
export class OwnerNotFound extends Schema.TaggedError<OwnerNotFound>()("OwnerNotFound", {
  type: ClientType,
  id: Schema.String
}) {}

/** Two keys of one client are live: enough to change from one to the other. */
export class TooManyKeys extends Schema.TaggedError<TooManyKeys>()("TooManyKeys", {}) {
  override get message(): string {
    return "two keys are live: revoke one first"
  }
}

const mostKeys = 2

export class ApiKeyStore extends Context.Service<ApiKeyStore, {
  /** Those of this client, the oldest first. */
  list(owner: ClientRef): Effect.Effect<ReadonlyArray<Key>, OwnerNotFound | StoreUnavailable>
  create(
    owner: ClientRef,
    key: { readonly id: KeyId; readonly hash: string }
  ): Effect.Effect<Written<void>, OwnerNotFound | TooManyKeys | StoreUnavailable>
  /** Tells whether this client had it. */
  remove(owner: ClientRef, id: KeyId): Effect.Effect<Written<boolean>, OwnerNotFound | StoreUnavailable>
}>()("control/store/ApiKeyStore") {
  static readonly layer = Layer.effect(
    ApiKeyStore,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const ownerColumn = ({ type }: ClientRef) => sql(type === "agent" ? "agent_id" : "gateway_id")

      const owned = Effect.fnUntraced(function*(owner: ClientRef, lock: "" | "for no key update") {
        const rows = yield* sql`select from ${sql(owner.type === "agent" ? "agents" : "gateways")}
          where id = ${owner.id} ${sql.literal(lock)}`
        if (rows.length === 0) return yield* new OwnerNotFound({ type: owner.type, id: owner.id })
      })

      const list = Effect.fn("KeyStore.list")(function*(owner: ClientRef) {
        yield* atEdge(owned(owner, ""))
        return decodeKeys(
          yield* atEdge(sql`select id, ${sql.literal(timeColumns)} from api_keys
          where ${ownerColumn(owner)} = ${owner.id} order by created_at, id`)
        )
      })

      /** The owner's row is locked, so that of two that come at once the second counts the first one's key. */
      const create = Effect.fn("KeyStore.create")(
        function*(owner: ClientRef, { hash, id }: { readonly id: KeyId; readonly hash: string }) {
          const insert = Effect.gen(function*() {
            yield* owned(owner, "for no key update")
            const live = yield* sql`select id from api_keys where ${ownerColumn(owner)} = ${owner.id}`
            if (live.length >= mostKeys) return yield* new TooManyKeys()
            yield* sql`insert into api_keys (id, ${ownerColumn(owner)}, hash) values (${id}, ${owner.id}, ${hash})`
          })
          return yield* write(sql)(insert)
        }
      )

      const remove = Effect.fn("KeyStore.remove")(function*(owner: ClientRef, id: KeyId) {
        const removed = Effect.gen(function*() {
          yield* owned(owner, "")
          const rows = yield* sql`
            delete from api_keys where id = ${id} and ${ownerColumn(owner)} = ${owner.id} returning id`
          return rows.length > 0
        })
        return yield* write(sql)(removed)
      })

      return ApiKeyStore.of({ list, create, remove })
    })
  )
}

const timeColumns = `control_iso(created_at) as "createdAt", control_iso(last_used_at) as "lastUsedAt"`

const decodeKeys = Schema.decodeUnknownSync(Schema.Array(Key))
