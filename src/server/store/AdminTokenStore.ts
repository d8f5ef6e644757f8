/** The table of admin tokens: hashes only. A row is live until it expires; who revokes it deletes it, and the audit keeps what it was. */
import type { KeyId } from "#schema/ids.ts"
import type { Page, PageRequest } from "#schema/resources.ts"
import { Token } from "#schema/adminTokens.ts"
import { Context, Effect, Layer, Option, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { keysetPages } from "./keysetPages.ts"
import { atEdge, type StoreUnavailable, writing } from "./sql.ts"
import { readerOf, type UnreadableRow } from "./UnreadableRow.ts"

export interface NewTokenRow {
  readonly id: KeyId
  readonly hash: string
  readonly name: string
  readonly role: Token["role"]
  readonly expiresIn?: number
  readonly expiresAt?: string
}

/** The token would never have been live, by the database's clock. */
export class ExpiryPast extends Schema.TaggedError<ExpiryPast>()("ExpiryPast", {}) {
  override get message(): string {
    return "`expiresAt` is past"
  }
}

const Live = Schema.Struct({ ...Token.fields, hash: Schema.String, useUnknown: Schema.Boolean })

export class AdminTokenStore extends Context.Service<AdminTokenStore, {
  create(token: NewTokenRow): Effect.Effect<Token, ExpiryPast | StoreUnavailable>
  find(id: KeyId): Effect.Effect<Option.Option<Token>, UnreadableRow | StoreUnavailable>
  /** Also those that have expired. */
  list(request: PageRequest): Effect.Effect<Page<Token>, StoreUnavailable>
  /** Tells whether it was there. */
  remove(id: KeyId): Effect.Effect<boolean, StoreUnavailable>
  /** The live token of this hash; `useUnknown` when nobody has noted within a minute that it is used. */
  live(hash: string): Effect.Effect<Option.Option<typeof Live.Type>, StoreUnavailable>
  /** Those of these tokens that are still live, as they were when they were let in: by their hash and role. */
  stillLive(hashes: ReadonlyArray<string>): Effect.Effect<ReadonlyMap<string, Token["role"]>, StoreUnavailable>
  noteUse(id: KeyId): Effect.Effect<void, StoreUnavailable>
}>()("control/store/AdminTokenStore") {
  static readonly layer = Layer.effect(
    AdminTokenStore,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const columns = sql.literal(tokenColumns)

      const create = Effect.fn("AdminTokenStore.create")(function*(token: NewTokenRow) {
        const insert = sql`insert into admin_tokens (id, name, role, hash, expires_at, created_by)
          select ${token.id}, ${token.name}, ${token.role}, ${token.hash}, expiry, control_current_actor()
          from (select coalesce(${token.expiresAt ?? null}::timestamptz,
            now() + ${token.expiresIn ?? null}::float8 * interval '1 second') as expiry) given
          where expiry is null or expiry > now() returning ${columns}`
        return yield* Option.match(yield* Effect.orDie(tokens.first(yield* writing(sql)(insert))), {
          onNone: () => Effect.fail(new ExpiryPast()),
          onSome: Effect.succeed
        })
      })

      const find = Effect.fn("AdminTokenStore.find")(function*(id: KeyId) {
        return yield* tokens.first(yield* atEdge(sql`select ${columns} from admin_tokens where id = ${id}`))
      })

      const list = keysetPages(
        sql,
        { columns: tokenColumns, from: "admin_tokens", when: "created_at", key: "id" },
        tokens.read
      )

      const remove = Effect.fn("AdminTokenStore.remove")(function*(id: KeyId) {
        const rows = yield* writing(sql)(sql`delete from admin_tokens where id = ${id} returning id`)
        return rows.length > 0
      })

      const live = Effect.fn("AdminTokenStore.live")(function*(hash: string) {
        const rows = yield* atEdge(sql`
          select ${columns}, hash, coalesce(last_used_at < now() - interval '1 minute', true) as "useUnknown"
          from admin_tokens where hash = ${hash} and (expires_at is null or expires_at > now())`)
        // A row that somebody wrote oddly by SQL opens nothing.
        return Option.flatMap(Option.fromUndefinedOr(rows[0]), decodeLive)
      })

      const stillLive = Effect.fn("AdminTokenStore.stillLive")(function*(hashes: ReadonlyArray<string>) {
        const rows = yield* atEdge(sql`select hash, role from admin_tokens
          where hash = any(${hashes}::text[]) and (expires_at is null or expires_at > now())`)
        return new Map(decodeHeld(rows).map(({ hash, role }) => [hash, role]))
      })

      const noteUse = Effect.fn("AdminTokenStore.noteUse")((id: KeyId) =>
        Effect.asVoid(atEdge(sql`update admin_tokens set last_used_at = now() where id = ${id}`))
      )

      return AdminTokenStore.of({ create, find, list, remove, live, stillLive, noteUse })
    })
  )
}

const tokenColumns = `id, name, role, control_iso(expires_at) as "expiresAt", control_iso(created_at) as "createdAt",
  created_by as "createdBy", control_iso(last_used_at) as "lastUsedAt"`

const tokens = readerOf(Token, ({ id }) => ({ entity: "token", id }))
const decodeLive = Schema.decodeUnknownOption(Live)
const decodeHeld = Schema.decodeUnknownSync(
  Schema.Array(Schema.Struct({ hash: Schema.String, role: Token.fields.role }))
)
