/** Handlers of /api/master-key. */
import { Api } from "#schema/api.ts"
import { MasterKeys } from "#services/MasterKeys.ts"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { problemOf } from "./problems.ts"

export const layer = HttpApiBuilder.group(
  Api,
  "masterKey",
  Effect.fnUntraced(function*(handlers) {
    const keys = yield* MasterKeys
    return handlers.handleAll({
      get: () => Effect.mapError(keys.state, problemOf),
      rotate: ({ payload }) => Effect.mapError(keys.rotate(payload), problemOf)
    })
  })
)
