/** Handlers of /api/tunnels. */
import { Api } from "#schema/api.ts"
import type { WaitQuery } from "#schema/delivery.ts"
import type { Tunnel } from "#schema/resources.ts"
import { Tunnels } from "#services/Tunnels.ts"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { makeDeliveryWait } from "./waitForDelivery.ts"
import { pageRequest } from "./pagination.ts"
import { problemOf } from "./problems.ts"

export const layer = HttpApiBuilder.group(
  Api,
  "tunnels",
  Effect.fnUntraced(function*(handlers) {
    const tunnels = yield* Tunnels
    const { deletionResult, deliveryFields } = yield* makeDeliveryWait
    /** An update without effect waits for the change that created the current row. */
    const awaitDelivery = (query: WaitQuery) => (tunnel: Tunnel) =>
      Effect.map(deliveryFields(query, tunnel.revision), (delivery) => ({ ...tunnel, ...delivery }))
    return handlers.handleAll({
      create: ({ payload, query }) =>
        tunnels.create(payload).pipe(Effect.flatMap(awaitDelivery(query)), Effect.mapError(problemOf)),
      list: ({ query }) => tunnels.list(pageRequest(query)).pipe(Effect.mapError(problemOf)),
      get: ({ params }) => tunnels.find(params.id).pipe(Effect.mapError(problemOf)),
      update: ({ params, payload, query }) =>
        tunnels.update(params.id, payload).pipe(Effect.flatMap(awaitDelivery(query)), Effect.mapError(problemOf)),
      remove: ({ params, query }) =>
        tunnels.remove(params.id).pipe(
          Effect.flatMap((revision) => deletionResult(query, revision)),
          Effect.mapError(problemOf)
        )
    })
  })
)
