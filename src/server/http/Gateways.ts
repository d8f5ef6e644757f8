/** /api/gateways */
import { Gateways } from "#services/Gateways.ts"
import { Api } from "#schema/api.ts"
import { Effect, Redacted } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { makeProgress, makeWaiting } from "./waitForDelivery.ts"
import { pageOf } from "./pagination.ts"
import { problemOf } from "./problems.ts"

export const layer = HttpApiBuilder.group(
  Api,
  "gateways",
  Effect.fnUntraced(function*(handlers) {
    const gateways = yield* Gateways
    const { deleted, delivered } = yield* makeWaiting
    const { gateway: shown } = yield* makeProgress
    return handlers.handleAll({
      create: ({ payload, query }) =>
        Effect.gen(function*() {
          const { gateway, apiKey, revision } = yield* gateways.create(payload)
          return { ...gateway, apiKey: Redacted.value(apiKey), ...yield* delivered(query, revision) }
        }).pipe(Effect.mapError(problemOf)),
      list: ({ query }) => pageOf(gateways.list, query, shown).pipe(Effect.mapError(problemOf)),
      get: ({ params }) => Effect.flatMap(gateways.find(params.id), shown).pipe(Effect.mapError(problemOf)),
      update: ({ params, payload, query }) =>
        Effect.gen(function*() {
          const { revision, value } = yield* gateways.update(params.id, payload)
          const delivery = yield* delivered(query, revision)
          return { ...yield* shown(value), ...delivery }
        }).pipe(Effect.mapError(problemOf)),
      remove: ({ params, query }) =>
        gateways.remove(params.id).pipe(
          Effect.flatMap((revision) => deleted(query, revision)),
          Effect.mapError(problemOf)
        )
    })
  })
)
