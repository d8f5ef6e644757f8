/** Creates, lists, revokes and authenticates admin tokens. No token is cached, because each request asks the database. */
import { constantTimeEqual, hashApiKey, mintApiKey } from "#crypto/apiKeys.ts"
import { KeyId } from "#schema/ids.ts"
import type { Page, PageRequest } from "#schema/pagination.ts"
import type { NewToken, Operator, Token } from "#schema/adminTokens.ts"
import { AdminTokenStore, type ExpiryInPast } from "#store/AdminTokenStore.ts"
import { Secrets } from "#store/secrets/Secrets.ts"
import type { StoreUnavailable } from "#store/sql.ts"
import type { UnreadableRow } from "#store/UnreadableRow.ts"
import { Context, Effect, Layer, Option, Redacted, Schema, type Scope } from "effect"
import { makeActiveTokens } from "./activeTokens.ts"
import { type InvalidToken, makeTokenRefusals, type TooManyFailures } from "./tokenRefusals.ts"

export { ExpiryInPast } from "#store/AdminTokenStore.ts"

export class TokenNotFound extends Schema.TaggedError<TokenNotFound>()("TokenNotFound", { id: KeyId }) {
  override get message(): string {
    return `admin token ${this.id} does not exist`
  }
}

export class AdminTokens extends Context.Service<AdminTokens, {
  /**
   * Resolves a token to its operator. `ended` completes when the token is revoked, expires or gets another role; this is
   * watched until the scope closes. Repeated failures from one address are rejected after a growing delay, at most 2 s.
   * A valid token is never delayed.
   */
  authenticate(
    token: Redacted.Redacted,
    address: string | null
  ): Effect.Effect<Operator["Service"], InvalidToken | TooManyFailures | StoreUnavailable, Scope.Scope>
  /** Creates a token. Its secret is returned here only, because the database keeps a hash. */
  create(token: NewToken): Effect.Effect<Token & { readonly token: Redacted.Redacted }, ExpiryInPast | StoreUnavailable>
  find(id: KeyId): Effect.Effect<Token, TokenNotFound | UnreadableRow | StoreUnavailable>
  list(request: PageRequest): Effect.Effect<Page<Token>, StoreUnavailable>
  /** Revokes a token: from now on no node accepts it. */
  revoke(id: KeyId): Effect.Effect<void, TokenNotFound | StoreUnavailable>
}>()("control/services/AdminTokens") {
  static readonly layer = Layer.effect(
    AdminTokens,
    Effect.gen(function*() {
      const store = yield* AdminTokenStore
      const { adminToken } = yield* Secrets
      const activeTokens = yield* makeActiveTokens(store)
      const recordUse = yield* makeUseRecorder(store)
      const refusals = yield* makeTokenRefusals(store)

      /** Known and unknown tokens take the same steps up to the result, so that timing reveals nothing. */
      const authenticate = Effect.fn("AdminTokens.authenticate")(
        function*(token: Redacted.Redacted, address: string | null) {
          const secret = Redacted.value(token)
          if (secret === "") return yield* refusals.missing(address)
          if (constantTimeEqual(secret, Redacted.value(adminToken))) return bootstrap
          const hash = hashApiKey(secret)
          const live = yield* store.findLive(hash)
          const storedHash = Option.match(live, { onNone: () => unknownHash, onSome: ({ hash }) => hash })
          if (!constantTimeEqual(storedHash, hash) || Option.isNone(live)) return yield* refusals.wrong(address)
          const { expiresAt, id, isLastUseStale, name, role } = live.value
          if (isLastUseStale) yield* recordUse(id)
          return { self: { id, name, role, expiresAt }, invalidated: yield* activeTokens.watch(hash, role) }
        }
      )

      const create = Effect.fn("AdminTokens.create")(function*(token: NewToken) {
        const { apiKey, keyId: id } = mintApiKey("admin")
        const row = yield* store.create({ ...token, id, hash: hashApiKey(Redacted.value(apiKey)) })
        return { ...row, token: apiKey }
      })

      const find = Effect.fn("AdminTokens.find")(function*(id: KeyId) {
        return yield* Option.match(yield* store.find(id), {
          onNone: () => Effect.fail(new TokenNotFound({ id })),
          onSome: Effect.succeed
        })
      })

      const revoke = Effect.fn("AdminTokens.revoke")(function*(id: KeyId) {
        if (!(yield* store.remove(id))) return yield* new TokenNotFound({ id })
      })

      return AdminTokens.of({ authenticate, create, find, list: store.list, revoke })
    })
  )
}

/**
 * The token of the settings. It has no row, so it works while the database is unreachable. It is valid until the settings
 * change.
 */
const bootstrap: Operator["Service"] = {
  self: { id: null, name: "bootstrap", role: "admin", expiresAt: null },
  invalidated: Effect.never
}

/** Stands for the stored hash of an unknown token. No text has this hash. */
const unknownHash = "-".repeat(64)

/** Records the last use of tokens in the background, with one write at a time for each token. */
const makeUseRecorder = Effect.fnUntraced(function*(store: AdminTokenStore["Service"]) {
  const scope = yield* Effect.scope
  const recording = new Set<KeyId>()
  return (id: KeyId): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (recording.has(id)) return Effect.void
      recording.add(id)
      return store.recordUse(id).pipe(
        Effect.catchCause((cause) => Effect.logDebug("cannot record the last use of an admin token", cause)),
        Effect.ensuring(Effect.sync(() => recording.delete(id))),
        Effect.forkIn(scope),
        Effect.asVoid
      )
    })
})
