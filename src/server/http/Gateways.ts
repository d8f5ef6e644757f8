/** Handlers of /api/gateways. */
import { Gateways } from "#services/Gateways.ts"
import { References } from "#services/References.ts"
import { Serving } from "#services/Serving.ts"
import type { ScopeRequest } from "#schema/resources.ts"
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
    const references = yield* References
    const serving = yield* Serving
    const { deletionResult, deliveryFields } = yield* makeDeliveryWait
    const { gateway: addLiveState } = yield* makeLiveState
    /** A request whose scope names agents by their ids. */
    const withIds = <Request extends { readonly serves?: ScopeRequest | null }>({ serves, ...rest }: Request) =>
      serves === undefined || serves === null
        ? Effect.succeed({ ...rest, ...(serves === null ? { serves } : {}) })
        : Effect.map(references.scope(serves), (serves) => ({ ...rest, serves }))
    return handlers.handleAll({
      create: ({ payload, query }) =>
        Effect.gen(function*() {
          const { gateway, apiKey, revision } = yield* gateways.create(yield* withIds(payload))
          return { ...gateway, apiKey: Redacted.value(apiKey), ...yield* deliveryFields(query, revision) }
        }).pipe(Effect.catchTag("NoSuchAgentInScope", references.suggestInScope), Effect.mapError(problemOf)),
      list: ({ query }) => pageOf(gateways.list, query, addLiveState).pipe(Effect.mapError(problemOf)),
      get: ({ params }) =>
        references.gateway(params.id).pipe(
          Effect.flatMap(gateways.find),
          Effect.flatMap(addLiveState),
          Effect.flatMap((gateway) =>
            Effect.map(serving.peersOf({ type: "gateway", id: gateway.id }), (peers) => ({ ...gateway, peers }))
          ),
          Effect.mapError(problemOf)
        ),
      update: ({ params, payload, query }) =>
        Effect.gen(function*() {
          const id = yield* references.gateway(params.id)
          const { revision, value } = yield* gateways.update(id, yield* withIds(payload))
          const delivery = yield* deliveryFields(query, revision)
          return { ...yield* addLiveState(value), ...delivery }
        }).pipe(Effect.catchTag("NoSuchAgentInScope", references.suggestInScope), Effect.mapError(problemOf)),
      remove: ({ params, query }) =>
        references.gateway(params.id).pipe(
          Effect.flatMap(gateways.remove),
          Effect.flatMap((revision) => deletionResult(query, revision)),
          Effect.mapError(problemOf)
        )
    })
  })
)
