/** /api/agents */
import { Agents } from "#agents/Agents.ts"
import { Api } from "#schema/api.ts"
import { Effect, Redacted } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { pageRequest } from "./pageRequest.ts"
import { problemOf } from "./problems.ts"

export const layer = HttpApiBuilder.group(
  Api,
  "agents",
  Effect.fnUntraced(function*(handlers) {
    const agents = yield* Agents
    return handlers.handleAll({
      create: ({ payload }) =>
        agents.create(payload).pipe(
          Effect.map(({ agent, apiKey }) => ({ ...agent, apiKey: Redacted.value(apiKey) })),
          Effect.mapError(problemOf)
        ),
      list: ({ query }) => agents.list(pageRequest(query)).pipe(Effect.mapError(problemOf)),
      get: ({ params }) => agents.find(params.id).pipe(Effect.mapError(problemOf)),
      update: ({ params, payload }) => agents.update(params.id, payload).pipe(Effect.mapError(problemOf)),
      remove: ({ params, query }) =>
        agents.remove(params.id, { cascade: query.cascade === "true" }).pipe(Effect.mapError(problemOf))
    })
  })
)
