/** Handlers of /api/agents/:id/keys and /api/gateways/:id/keys. */
import { ApiKeys } from "#services/ApiKeys.ts"
import { References } from "#services/References.ts"
import { Api } from "#schema/api.ts"
import type { KeyId } from "#schema/ids.ts"
import type { Page } from "#schema/pagination.ts"
import type { Key } from "#schema/resources.ts"
import { Effect, Layer, Redacted } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { makeDeliveryWait } from "./waitForDelivery.ts"
import { apiKeyProblemOf } from "./problems.ts"

const agentKeys = HttpApiBuilder.group(
  Api,
  "agentKeys",
  Effect.fnUntraced(function*(handlers) {
    const keys = yield* ApiKeys
    const references = yield* References
    const { deletionResult, deliveryFields } = yield* makeDeliveryWait
    return handlers.handleAll({
      list: ({ params: { id } }) =>
        references.agent(id).pipe(
          Effect.flatMap((id) => keys.list({ type: "agent", id })),
          Effect.map(onePage),
          Effect.mapError(apiKeyProblemOf.agent)
        ),
      create: ({ params: { id }, query }) =>
        references.agent(id).pipe(
          Effect.flatMap((id) => keys.create({ type: "agent", id })),
          Effect.flatMap((created) => Effect.map(deliveryFields(query, created.revision), createdKey(created))),
          Effect.mapError(apiKeyProblemOf.agent)
        ),
      remove: ({ params: { id, keyId }, query }) =>
        references.agent(id).pipe(
          Effect.flatMap((id) => keys.revoke({ type: "agent", id }, keyId)),
          Effect.flatMap((revision) => deletionResult(query, revision)),
          Effect.mapError(apiKeyProblemOf.agent)
        )
    })
  })
)

const gatewayKeys = HttpApiBuilder.group(
  Api,
  "gatewayKeys",
  Effect.fnUntraced(function*(handlers) {
    const keys = yield* ApiKeys
    const references = yield* References
    const { deletionResult, deliveryFields } = yield* makeDeliveryWait
    return handlers.handleAll({
      list: ({ params: { id } }) =>
        references.gateway(id).pipe(
          Effect.flatMap((id) => keys.list({ type: "gateway", id })),
          Effect.map(onePage),
          Effect.mapError(apiKeyProblemOf.gateway)
        ),
      create: ({ params: { id }, query }) =>
        references.gateway(id).pipe(
          Effect.flatMap((id) => keys.create({ type: "gateway", id })),
          Effect.flatMap((created) => Effect.map(deliveryFields(query, created.revision), createdKey(created))),
          Effect.mapError(apiKeyProblemOf.gateway)
        ),
      remove: ({ params: { id, keyId }, query }) =>
        references.gateway(id).pipe(
          Effect.flatMap((id) => keys.revoke({ type: "gateway", id }, keyId)),
          Effect.flatMap((revision) => deletionResult(query, revision)),
          Effect.mapError(apiKeyProblemOf.gateway)
        )
    })
  })
)

export const layer = Layer.mergeAll(agentKeys, gatewayKeys)

/** A client has at most two keys, so one page in the shape of every list is enough. */
function onePage(items: ReadonlyArray<Key>): Page<Key> {
  return { items, nextCursor: null }
}

function createdKey({ apiKey, id }: { readonly id: KeyId; readonly apiKey: Redacted.Redacted }) {
  return <Delivery extends object>(delivery: Delivery) => ({ id, apiKey: Redacted.value(apiKey), ...delivery })
}
