/** Serves the API on the Unix socket of the data directory, for `control` on the same machine. */
import { currentLimits } from "#ingress/connectionLimits.ts"
import { makeLocalServer } from "#ingress/localSockets.ts"
import type { RequestLimits } from "#ingress/requestLimits.ts"
import { newApiSocket } from "#store/apiSocket.ts"
import { Intervals } from "#time/Intervals.ts"
import { Effect, Layer, Option } from "effect"
import type { Server } from "node:http"

/**
 * Passes the requests to the handlers of `api`, the server of the port. Without the socket Control serves all others, so a failure is
 * only logged. At shutdown the socket ends before the handlers, and its requests get the same time.
 */
export const layer = (api: Server, limits: RequestLimits) =>
  Layer.effectDiscard(
    Effect.gen(function*() {
      const path = yield* newApiSocket
      if (Option.isNone(path)) return
      const { apiShutdownTimeout } = yield* Intervals
      const { local } = (yield* currentLimits).api
      const server = makeLocalServer(limits, local, (request, response) => void api.emit("request", request, response))
      yield* Effect.acquireRelease(listen(server, path.value), () =>
        Effect.andThen(
          Effect.timeoutOption(close(server), apiShutdownTimeout),
          Effect.sync(() => server.closeAllConnections())
        ))
    }).pipe(
      Effect.catch(({ message }) =>
        Effect.logWarning(
          `${message}; without a socket there, commands on this machine need CONTROL_API_URL and CONTROL_ADMIN_TOKEN`
        )
      )
    )
  )

const listen = (server: Server, path: string) =>
  Effect.callback<void, Error>((resume) => {
    const onError = (error: Error) => resume(Effect.fail(error))
    server.once("error", onError).listen(path, () => {
      server.off("error", onError)
      resume(Effect.void)
    })
  })

/** Removes the socket, and completes with the last request. */
const close = (server: Server) => Effect.callback<void>((resume) => void server.close(() => resume(Effect.void)))
