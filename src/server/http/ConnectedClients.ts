/** Handlers of /api/clients: rows of all nodes, with fresher delivery state for clients of this node. */
import { Api } from "#schema/api.ts"
import { PresenceStore } from "#store/PresenceStore.ts"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { makeLiveState } from "./waitForDelivery.ts"
import { pageOf } from "./pagination.ts"
import { problemOf } from "./problems.ts"

export const layer = HttpApiBuilder.group(
  Api,
  "clients",
  Effect.fnUntraced(function*(handlers) {
    const presence = yield* PresenceStore
    const { client: addLiveState } = yield* makeLiveState
    return handlers.handle(
      "list",
      ({ query }) => pageOf(presence.listConnected, query, addLiveState).pipe(Effect.mapError(problemOf))
    )
  })
)
