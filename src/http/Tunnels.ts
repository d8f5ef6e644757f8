/** /api/tunnels */
import { Api } from "#schema/api.ts"
import { Tunnels } from "#tunnels/Tunnels.ts"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { pageRequest } from "./pageRequest.ts"
import { problemOf } from "./problems.ts"

export const layer = HttpApiBuilder.group(
  Api,
  "tunnels",
  Effect.fnUntraced(function*(handlers) {
    const tunnels = yield* Tunnels
    return handlers.handleAll({
      create: ({ payload }) => tunnels.create(payload).pipe(Effect.mapError(problemOf)),
      list: ({ query }) => tunnels.list(pageRequest(query)).pipe(Effect.mapError(problemOf)),
      get: ({ params }) => tunnels.find(params.id).pipe(Effect.mapError(problemOf)),
      update: ({ params, payload }) => tunnels.update(params.id, payload).pipe(Effect.mapError(problemOf)),
      remove: ({ params }) => tunnels.remove(params.id).pipe(Effect.mapError(problemOf))
    })
  })
)
