/** Table of admin tokens, stored as hashes. Revoking a token deletes its row; the audit keeps the entry. */
import type { KeyId } from "#schema/ids.ts"
import type { Page, PageRequest } from "#schema/pagination.ts"
import { Token } from "#schema/adminTokens.ts"
import { Context, Effect, Layer, Option, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { keysetPages } from "./keysetPages.ts"
import { auditedTransaction, type StoreUnavailable, withStoreErrors } from "./sql.ts"
import { makeRowReader, type UnreadableRow } from "./UnreadableRow.ts"

/** A new token. Its lifetime is `expiresIn` in seconds or `expiresAt` (RFC 3339); without both it never expires. */
export interface NewTokenRow {
  readonly id: KeyId
  readonly hash: string
  readonly name: string
  readonly role: Token["role"]
  readonly expiresIn?: number
  readonly expiresAt?: string
}

/** `expiresAt` is in the past by the clock of the database. */
export class ExpiryInPast extends Schema.TaggedError<ExpiryInPast>()("ExpiryInPast", {}) {
  override get message(): string {
    return "`expiresAt` is in the past; give a later time"
  }
}

const LiveToken = Schema.Struct({ ...Token.fields, hash: Schema.String, isLastUseStale: Schema.Boolean })

/** Reads and writes admin tokens. Changes are audited. */
export class AdminTokenStore extends Context.Service<AdminTokenStore, {
  create(token: NewTokenRow): Effect.Effect<Token, ExpiryInPast | StoreUnavailable>
  find(id: KeyId): Effect.Effect<Option.Option<Token>, UnreadableRow | StoreUnavailable>
  /** Lists all tokens, expired ones included. */
  list(request: PageRequest): Effect.Effect<Page<Token>, StoreUnavailable>
  /** Deletes the token; false if no token has this id. */
  remove(id: KeyId): Effect.Effect<boolean, StoreUnavailable>
  /** The live token with this hash. `isLastUseStale` means that `lastUsedAt` is older than one minute or missing. */
  findLive(hash: string): Effect.Effect<Option.Option<typeof LiveToken.Type>, StoreUnavailable>
  /** The role of each token in `hashes` that is still live, by hash. */
  findLiveRoles(hashes: ReadonlyArray<string>): Effect.Effect<ReadonlyMap<string, Token["role"]>, StoreUnavailable>
  /** Sets `lastUsedAt` to the current time of the database. */
  recordUse(id: KeyId): Effect.Effect<void, StoreUnavailable>
  /** Adds an audit entry about a refused token, under the current `AuditActor`. */
  readonly recordRefusal: Effect.Effect<void, StoreUnavailable>
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
        return yield* Option.match(yield* Effect.orDie(tokens.first(yield* auditedTransaction(sql)(insert))), {
          onNone: () => Effect.fail(new ExpiryInPast()),
          onSome: Effect.succeed
        })
      })

      const find = Effect.fn("AdminTokenStore.find")(function*(id: KeyId) {
        return yield* tokens.first(yield* withStoreErrors(sql`select ${columns} from admin_tokens where id = ${id}`))
      })

      const list = keysetPages(
        sql,
        { columns: tokenColumns, from: "admin_tokens", orderBy: "created_at", key: "id" },
        tokens.read
      )

      const remove = Effect.fn("AdminTokenStore.remove")(function*(id: KeyId) {
        const rows = yield* auditedTransaction(sql)(sql`delete from admin_tokens where id = ${id} returning id`)
        return rows.length > 0
      })

      const findLive = Effect.fn("AdminTokenStore.findLive")(function*(hash: string) {
        const rows = yield* withStoreErrors(sql`
          select ${columns}, hash, coalesce(last_used_at < now() - interval '1 minute', true) as "isLastUseStale"
          from admin_tokens where hash = ${hash} and (expires_at is null or expires_at > now())`)
        // A malformed row, for example one written by hand with SQL, authenticates no token.
        return Option.flatMap(Option.fromUndefinedOr(rows[0]), decodeLive)
      })

      const findLiveRoles = Effect.fn("AdminTokenStore.findLiveRoles")(function*(hashes: ReadonlyArray<string>) {
        const rows = yield* withStoreErrors(sql`select hash, role from admin_tokens
          where hash = any(${hashes}::text[]) and (expires_at is null or expires_at > now())`)
        return new Map(decodeRoles(rows).map(({ hash, role }) => [hash, role]))
      })

      const recordUse = Effect.fn("AdminTokenStore.recordUse")((id: KeyId) =>
        Effect.asVoid(withStoreErrors(sql`update admin_tokens set last_used_at = now() where id = ${id}`))
      )

      const recordRefusal = Effect.asVoid(
        auditedTransaction(sql)(sql`select control_audit('refused_token', 'create', 'unknown', null, null, null)`)
      )

      return AdminTokenStore.of({ create, find, list, remove, findLive, findLiveRoles, recordUse, recordRefusal })
    })
  )
}

const tokenColumns = `id, name, role, control_iso(expires_at) as "expiresAt", control_iso(created_at) as "createdAt",
  created_by as "createdBy", control_iso(last_used_at) as "lastUsedAt"`

const tokens = makeRowReader(Token, ({ id }) => ({ entity: "token", id }))
const decodeLive = Schema.decodeUnknownOption(LiveToken)
const decodeRoles = Schema.decodeUnknownSync(
  Schema.Array(Schema.Struct({ hash: Schema.String, role: Token.fields.role }))
)
