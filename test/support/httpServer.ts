/** HTTP servers of tests on free ports of this machine. */
import { Effect, type Scope } from "effect"
import { createServer, type RequestListener, type Server } from "node:http"
import type { AddressInfo } from "node:net"

/** Listens until the scope ends, and returns the URL. */
const listenHttp = (handler: RequestListener): Effect.Effect<string, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<Server>((resume) => {
      const server = createServer(handler).listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.sync(() => server.close())
  ).pipe(Effect.map((server) => `http://127.0.0.1:${(server.address() as AddressInfo).port}`))

/** Counts its requests, and answers them with `{}`. */
export const recordingServer = Effect.gen(function*() {
  const received: Array<string> = []
  const url = yield* listenHttp((request, response) => {
    received.push(`${request.method} ${request.url}`)
    response.end("{}")
  })
  return { received, url }
})

/** Redirects each request to the same path of another server. */
export const redirectingServer = (target: string) =>
  listenHttp((request, response) => {
    request.resume()
    response.writeHead(307, { location: `${target}${request.url}` }).end()
  })
