/** Handlers of /healthz, /readyz and /metrics, which need no token and reveal no names. */
import { Network } from "#feed/Network.ts"
import { Api } from "#schema/api.ts"
import { NotReady } from "#schema/problems.ts"
import { WriteCheck } from "#store/WriteCheck.ts"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { makeMetrics } from "./metrics.ts"
import { notServingReason } from "./readiness.ts"

const ok = { status: "ok" } as const

export const layer = HttpApiBuilder.group(
  Api,
  "health",
  Effect.fnUntraced(function*(handlers) {
    const network = yield* Network
    const writeCheck = yield* WriteCheck
    const metrics = yield* makeMetrics
    return handlers.handleAll({
      live: () => Effect.succeed(ok),
      ready: () =>
        Effect.flatMap(
          notServingReason(network, writeCheck),
          (detail) => detail === undefined ? Effect.succeed(ok) : Effect.fail(new NotReady({ detail }))
        ),
      metrics: () => metrics
    })
  })
)
