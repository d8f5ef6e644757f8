/** /api/gateways */
import { Gateways } from "#gateways/Gateways.ts"
import { Api } from "#schema/api.ts"
import { Effect, Redacted } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { pageRequest } from "./pageRequest.ts"
import { problemOf } from "./problems.ts"

export const layer = HttpApiBuilder.group(
  Api,
  "gateways",
  Effect.fnUntraced(function*(handlers) {
    const gateways = yield* Gateways
    return handlers.handleAll({
      create: ({ payload }) =>
        gateways.create(payload).pipe(
          Effect.map(({ apiKey, gateway }) => ({ ...gateway, apiKey: Redacted.value(apiKey) })),
          Effect.mapError(problemOf)
        ),
      list: ({ query }) => gateways.list(pageRequest(query)).pipe(Effect.mapError(problemOf)),
      get: ({ params }) => gateways.find(params.id).pipe(Effect.mapError(problemOf)),
      update: ({ params, payload }) => gateways.update(params.id, payload).pipe(Effect.mapError(problemOf)),
      remove: ({ params }) => gateways.remove(params.id).pipe(Effect.mapError(problemOf))
    })
  })
)
