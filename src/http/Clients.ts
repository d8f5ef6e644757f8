/** /api/clients: read from the rows, so that it holds for all nodes. */
import { Api } from "#schema/api.ts"
import { PresenceStore } from "#store/PresenceStore.ts"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { pageRequest } from "./pageRequest.ts"
import { problemOf } from "./problems.ts"

export const layer = HttpApiBuilder.group(
  Api,
  "clients",
  Effect.fnUntraced(function*(handlers) {
    const presence = yield* PresenceStore
    return handlers.handle(
      "list",
      ({ query }) => presence.connected(pageRequest(query)).pipe(Effect.mapError(problemOf))
    )
  })
)
