/** Handlers of /api/agents. */
import { Agents } from "#services/Agents.ts"
import { References } from "#services/References.ts"
import { Serving } from "#services/Serving.ts"
import { Api } from "#schema/api.ts"
import { Effect, Redacted } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { makeDeliveryWait, makeLiveState } from "./waitForDelivery.ts"
import { pageOf } from "./pagination.ts"
import { problemOf } from "./problems.ts"

export const layer = HttpApiBuilder.group(
  Api,
  "agents",
  Effect.fnUntraced(function*(handlers) {
    const agents = yield* Agents
    const references = yield* References
    const serving = yield* Serving
    const { deletionResult, deliveryFields } = yield* makeDeliveryWait
    const { agent: addLiveState } = yield* makeLiveState
    return handlers.handleAll({
      create: ({ payload, query }) =>
        Effect.gen(function*() {
          const { agent, apiKey, revision } = yield* agents.create(payload)
          return { ...agent, apiKey: Redacted.value(apiKey), ...yield* deliveryFields(query, revision) }
        }).pipe(Effect.mapError(problemOf)),
      list: ({ query }) => pageOf(agents.list, query, addLiveState).pipe(Effect.mapError(problemOf)),
      get: ({ params }) =>
        references.agent(params.id).pipe(
          Effect.flatMap(agents.find),
          Effect.flatMap(addLiveState),
          Effect.flatMap((agent) =>
            Effect.map(serving.peersOf({ type: "agent", id: agent.id }), (peers) => ({ ...agent, peers }))
          ),
          Effect.mapError(problemOf)
        ),
      update: ({ params, payload, query }) =>
        Effect.gen(function*() {
          const { revision, value } = yield* agents.update(yield* references.agent(params.id), payload)
          const delivery = yield* deliveryFields(query, revision)
          return { ...yield* addLiveState(value), ...delivery }
        }).pipe(Effect.mapError(problemOf)),
      remove: ({ params, query }) =>
        references.agent(params.id).pipe(
          Effect.flatMap((id) => agents.remove(id, { cascade: query.cascade === "true" })),
          Effect.flatMap((revision) => deletionResult(query, revision)),
          Effect.mapError(problemOf)
        )
    })
  })
)
