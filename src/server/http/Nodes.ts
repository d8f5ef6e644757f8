/** Handlers of /api/nodes. */
import { Api } from "#schema/api.ts"
import { NodeStore } from "#store/NodeStore.ts"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { problemOf } from "./problems.ts"

export const layer = HttpApiBuilder.group(
  Api,
  "nodes",
  Effect.fnUntraced(function*(handlers) {
    const nodes = yield* NodeStore
    return handlers.handle(
      "list",
      () => nodes.list.pipe(Effect.mapBoth({ onSuccess: (items) => ({ items }), onFailure: problemOf }))
    )
  })
)
