/** Handlers of /api/events. */
import { Events } from "#events/Events.ts"
import { Api } from "#schema/api.ts"
import { Operator } from "#schema/adminTokens.ts"
import { Effect, Layer, Stream } from "effect"
import { HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { eventStream } from "./eventStream.ts"
import { problemOf } from "./problems.ts"

export const layer = HttpApiBuilder.group(
  Api,
  "events",
  Effect.fnUntraced(function*(handlers) {
    const { follow } = yield* Events
    return handlers.handleRaw(
      "follow",
      ({ headers, query }) =>
        Effect.all([follow(headers["last-event-id"] ?? query.lastEventId), Operator]).pipe(
          Effect.map(([{ events, from }, { invalidated: ended }]) =>
            HttpServerResponse.stream(eventStream(from, Stream.interruptWhen(events, ended)), {
              contentType: "text/event-stream"
            })
          ),
          Effect.mapError(problemOf)
        )
    )
  })
)

/**
 * Ends all event streams when the server begins to stop, since they would never end by themselves. Build this layer after
 * the server.
 */
export const closeOnShutdown = Layer.effectDiscard(
  Effect.flatMap(
    Events,
    ({ close }) =>
      Effect.addFinalizer(() => Effect.andThen(close, Effect.logDebug("shutdown: event streams are closed")))
  )
)
