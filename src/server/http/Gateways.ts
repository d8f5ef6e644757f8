/** Handlers of /api/gateways. */
import { Gateways } from "#services/Gateways.ts"
import { Api } from "#schema/api.ts"
import { Effect, Redacted } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { makeDeliveryWait, makeLiveState } from "./waitForDelivery.ts"
import { pageOf } from "./pagination.ts"
import { problemOf } from "./problems.ts"

export const layer = HttpApiBuilder.group(
  Api,
  "gateways",
  Effect.fnUntraced(function*(handlers) {
    const gateways = yield* Gateways
    const { deletionResult, deliveryFields } = yield* makeDeliveryWait
    const { gateway: addLiveState } = yield* makeLiveState
    return handlers.handleAll({
      create: ({ payload, query }) =>
        Effect.gen(function*() {
          const { gateway, apiKey, revision } = yield* gateways.create(payload)
          return { ...gateway, apiKey: Redacted.value(apiKey), ...yield* deliveryFields(query, revision) }
        }).pipe(Effect.mapError(problemOf)),
      list: ({ query }) => pageOf(gateways.list, query, addLiveState).pipe(Effect.mapError(problemOf)),
      get: ({ params }) => Effect.flatMap(gateways.find(params.id), addLiveState).pipe(Effect.mapError(problemOf)),
      update: ({ params, payload, query }) =>
        Effect.gen(function*() {
          const { revision, value } = yield* gateways.update(params.id, payload)
          const delivery = yield* deliveryFields(query, revision)
          return { ...yield* addLiveState(value), ...delivery }
        }).pipe(Effect.mapError(problemOf)),
      remove: ({ params, query }) =>
        gateways.remove(params.id).pipe(
          Effect.flatMap((revision) => deletionResult(query, revision)),
          Effect.mapError(problemOf)
        )
    })
  })
)
