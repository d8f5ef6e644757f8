/** /api/agents/:id/keys and /api/gateways/:id/keys */
import { ApiKeys } from "#services/ApiKeys.ts"
import { Api } from "#schema/api.ts"
import type { KeyId } from "#schema/ids.ts"
import type { Key, Page } from "#schema/resources.ts"
import { Effect, Layer, Redacted } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { makeWaiting } from "./waitForDelivery.ts"
import { keyProblemOf } from "./problems.ts"

const ofAgents = HttpApiBuilder.group(
  Api,
  "agentKeys",
  Effect.fnUntraced(function*(handlers) {
    const keys = yield* ApiKeys
    const { deleted, delivered } = yield* makeWaiting
    return handlers.handleAll({
      list: ({ params: { id } }) =>
        keys.list({ type: "agent", id }).pipe(
          Effect.map(onePage),
          Effect.mapError(keyProblemOf.agent)
        ),
      create: ({ params: { id }, query }) =>
        keys.create({ type: "agent", id }).pipe(
          Effect.flatMap((created) => Effect.map(delivered(query, created.revision), shown(created))),
          Effect.mapError(keyProblemOf.agent)
        ),
      remove: ({ params: { id, keyId }, query }) =>
        keys.revoke({ type: "agent", id }, keyId).pipe(
          Effect.flatMap((revision) => deleted(query, revision)),
          Effect.mapError(keyProblemOf.agent)
        )
    })
  })
)

const ofGateways = HttpApiBuilder.group(
  Api,
  "gatewayKeys",
  Effect.fnUntraced(function*(handlers) {
    const keys = yield* ApiKeys
    const { deleted, delivered } = yield* makeWaiting
    return handlers.handleAll({
      list: ({ params: { id } }) =>
        keys.list({ type: "gateway", id }).pipe(
          Effect.map(onePage),
          Effect.mapError(keyProblemOf.gateway)
        ),
      create: ({ params: { id }, query }) =>
        keys.create({ type: "gateway", id }).pipe(
          Effect.flatMap((created) => Effect.map(delivered(query, created.revision), shown(created))),
          Effect.mapError(keyProblemOf.gateway)
        ),
      remove: ({ params: { id, keyId }, query }) =>
        keys.revoke({ type: "gateway", id }, keyId).pipe(
          Effect.flatMap((revision) => deleted(query, revision)),
          Effect.mapError(keyProblemOf.gateway)
        )
    })
  })
)

export const layer = Layer.mergeAll(ofAgents, ofGateways)

/** There are never more than two, so they need no pages; the shape is that of every list. */
function onePage(items: ReadonlyArray<Key>): Page<Key> {
  return { items, nextCursor: null }
}

function shown({ apiKey, id }: { readonly id: KeyId; readonly apiKey: Redacted.Redacted }) {
  return <Delivery extends object>(delivery: Delivery) => ({ id, apiKey: Redacted.value(apiKey), ...delivery })
}
