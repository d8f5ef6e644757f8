/** /healthz, /readyz and /metrics: for supervisors, without a token and without names. */
import { Network } from "#feed/Network.ts"
import { Api } from "#schema/api.ts"
import { NotReady } from "#schema/problems.ts"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { makeMetrics } from "./metrics.ts"

/** A supervisor that asks has less patience than an operator. */
const patience = "2 seconds"

const ok = { status: "ok" } as const

export const layer = HttpApiBuilder.group(
  Api,
  "health",
  Effect.fnUntraced(function*(handlers) {
    const network = yield* Network
    const metrics = yield* makeMetrics
    const notReady = (detail: string) => Effect.fail(new NotReady({ detail }))
    return handlers.handleAll({
      live: () => Effect.succeed(ok),
      ready: () =>
        network.catchUp.pipe(
          Effect.timeoutOrElse({
            duration: patience,
            orElse: () => notReady("the feed of changes is not caught up in time")
          }),
          Effect.catchTag("StoreUnavailable", ({ message }) => notReady(message)),
          Effect.as(ok)
        ),
      metrics: () => metrics
    })
  })
)
