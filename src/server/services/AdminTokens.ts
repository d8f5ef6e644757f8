/** Admin tokens as operators ask for them, and whom they let in. Nothing is remembered of a token: each request asks the database. */
import { monotonicMillis } from "#time/monotonic.ts"
import { hashApiKey, mintApiKey, sameSecret } from "#crypto/apiKeys.ts"
import { FailureBackoff } from "#rateLimit/FailureBackoff.ts"
import { Quota } from "#rateLimit/Quota.ts"
import { KeyId } from "#schema/ids.ts"
import type { Page, PageRequest } from "#schema/resources.ts"
import type { NewToken, Operator, Token } from "#schema/adminTokens.ts"
import { AdminTokenStore, type ExpiryPast } from "#store/AdminTokenStore.ts"
import { Secrets } from "#store/secrets/Secrets.ts"
import type { StoreUnavailable } from "#store/sql.ts"
import type { UnreadableRow } from "#store/UnreadableRow.ts"
import { Context, Effect, Layer, Option, Redacted, Schema, type Scope } from "effect"
import { makeHolders } from "./activeTokens.ts"

export { ExpiryPast } from "#store/AdminTokenStore.ts"

/** The token is missing, unknown, revoked or expired; which of them is not told. */
export class InvalidToken extends Schema.TaggedError<InvalidToken>()("InvalidToken", {}) {}

/** So many wrong tokens wait for their answers that this one is answered at once. */
export class TooManyFailures extends Schema.TaggedError<TooManyFailures>()("TooManyFailures", {}) {
  override get message(): string {
    return "too many wrong admin tokens are waiting for their answer: come back later"
  }
}

export class TokenNotFound extends Schema.TaggedError<TokenNotFound>()("TokenNotFound", { id: KeyId }) {
  override get message(): string {
    return `there is no admin token ${this.id}`
  }
}

export class AdminTokens extends Context.Service<AdminTokens, {
  /**
   * Whom this token stands for; `ended` ends when it does, for as long as the scope lasts. Failures from one address are
   * answered more and more slowly; a right token is never slowed.
   */
  authenticate(
    token: Redacted.Redacted,
    address: string | null
  ): Effect.Effect<Operator["Service"], InvalidToken | TooManyFailures | StoreUnavailable, Scope.Scope>
  /** A new one; nobody can read its secret again. */
  create(token: NewToken): Effect.Effect<Token & { readonly token: Redacted.Redacted }, ExpiryPast | StoreUnavailable>
  find(id: KeyId): Effect.Effect<Token, TokenNotFound | UnreadableRow | StoreUnavailable>
  list(request: PageRequest): Effect.Effect<Page<Token>, StoreUnavailable>
  /** From now on it opens nothing, on any node. */
  revoke(id: KeyId): Effect.Effect<void, TokenNotFound | StoreUnavailable>
}>()("control/services/AdminTokens") {
  static readonly layer = Layer.effect(
    AdminTokens,
    Effect.gen(function*() {
      const store = yield* AdminTokenStore
      const { adminToken } = yield* Secrets
      const holders = yield* makeHolders(store)
      const noteUse = yield* makeUseNotes(store)
      const refuse = makeRefusal()

      /** A known token and an unknown one take the same way, up to what is answered. */
      const authenticate = Effect.fn("AdminTokens.authenticate")(
        function*(token: Redacted.Redacted, address: string | null) {
          const given = Redacted.value(token)
          // Who sends none guesses nothing.
          if (given === "") return yield* new InvalidToken()
          if (sameSecret(given, Redacted.value(adminToken))) return bootstrap
          const hash = hashApiKey(given)
          const found = yield* store.live(hash)
          const kept = Option.match(found, { onNone: () => unknownHash, onSome: ({ hash }) => hash })
          if (!sameSecret(kept, hash) || Option.isNone(found)) return yield* refuse(address)
          const { expiresAt, id, name, role, useUnknown } = found.value
          if (useUnknown) yield* noteUse(id)
          return { self: { id, name, role, expiresAt }, ended: yield* holders.hold(hash, role) }
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

/** It is no row: it works without a database, and ends when the server gets another one. */
const bootstrap: Operator["Service"] = {
  self: { id: null, name: "bootstrap", role: "admin", expiresAt: null },
  ended: Effect.never
}

/** No text has this hash. */
const unknownHash = "-".repeat(64)

/** Notes the use of tokens beside the answers, one note of each at a time. */
const makeUseNotes = Effect.fnUntraced(function*(store: AdminTokenStore["Service"]) {
  const scope = yield* Effect.scope
  const noting = new Set<KeyId>()
  return (id: KeyId): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (noting.has(id)) return Effect.void
      noting.add(id)
      return store.noteUse(id).pipe(
        Effect.catchCause((cause) => Effect.logWarning("the use of an admin token could not be noted", cause)),
        Effect.ensuring(Effect.sync(() => noting.delete(id))),
        Effect.forkIn(scope),
        Effect.asVoid
      )
    })
})

/** As many wrong tokens wait for their answers: of one address, and of all. */
const mostWaitingOfOne = 16
const mostWaiting = 1_024

function makeRefusal() {
  const failures = new FailureBackoff()
  const waiting = new Quota(mostWaiting, mostWaitingOfOne)

  return Effect.fnUntraced(function*(from: string | null) {
    const address = from ?? ""
    const delay = failures.note(address, yield* monotonicMillis)
    yield* Effect.acquireUseRelease(
      Effect.suspend(() => {
        const leave = waiting.take(address)
        return leave === undefined ? Effect.fail(new TooManyFailures()) : Effect.succeed(leave)
      }),
      () => Effect.sleep(delay),
      (leave) => Effect.sync(leave)
    )
    return yield* new InvalidToken()
  })
}
