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
        Effect.gen(function*() {
          const { invalidated, self } = yield* Operator
          const { events, from } = yield* follow(headers["last-event-id"] ?? query.lastEventId, self)
          return HttpServerResponse.stream(eventStream(from, Stream.interruptWhen(events, invalidated)), {
            contentType: "text/event-stream"
          })
        }).pipe(Effect.mapError(problemOf))
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
