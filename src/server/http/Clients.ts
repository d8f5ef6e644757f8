/** /api/clients: read from the rows, so that it holds for all nodes; how far those of this one have come is known better. */
import { Api } from "#schema/api.ts"
import { PresenceStore } from "#store/PresenceStore.ts"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { makeProgress } from "./waitForDelivery.ts"
import { pageOf } from "./pagination.ts"
import { problemOf } from "./problems.ts"

export const layer = HttpApiBuilder.group(
  Api,
  "clients",
  Effect.fnUntraced(function*(handlers) {
    const presence = yield* PresenceStore
    const { client: shown } = yield* makeProgress
    return handlers.handle(
      "list",
      ({ query }) => pageOf(presence.connected, query, shown).pipe(Effect.mapError(problemOf))
    )
  })
)
