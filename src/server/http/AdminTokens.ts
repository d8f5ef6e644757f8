/** Handlers of /api/tokens and /api/me. */
import { AdminTokens } from "#services/AdminTokens.ts"
import { Api } from "#schema/api.ts"
import { Operator } from "#schema/adminTokens.ts"
import { Effect, Redacted } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { pageRequest } from "./pagination.ts"
import { problemOf } from "./problems.ts"

export const layer = HttpApiBuilder.group(
  Api,
  "tokens",
  Effect.fnUntraced(function*(handlers) {
    const tokens = yield* AdminTokens
    return handlers.handleAll({
      self: () => Effect.map(Operator, ({ self }) => self),
      create: ({ payload }) =>
        tokens.create(payload).pipe(
          Effect.map(({ token, ...row }) => ({ ...row, token: Redacted.value(token) })),
          Effect.mapError(problemOf)
        ),
      list: ({ query }) => tokens.list(pageRequest(query)).pipe(Effect.mapError(problemOf)),
      get: ({ params: { id } }) => tokens.find(id).pipe(Effect.mapError(problemOf)),
      remove: ({ params: { id } }) => tokens.revoke(id).pipe(Effect.mapError(problemOf))
    })
  })
)
