/** The WebSocket port: judges upgrades, and hands each socket to `Sessions`. */
import { subprotocols } from "#schema/protocol.ts"
import { PortUnavailable, Settings } from "#Settings.ts"
import { Context, Effect, Layer } from "effect"
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import type { Duplex } from "node:stream"
import { WebSocketServer } from "ws"
import { Sessions } from "./Sessions.ts"
import { addressOf, judgeRequest } from "./upgrade.ts"
import { WsSocket } from "./WsSocket.ts"

/** A server that listens already, for those who must have the port before everything else is ready. */
export const ListeningServer = Context.Reference<Server | undefined>("control/connection/ListeningServer", {
  defaultValue: () => undefined
})

export class Listener extends Context.Service<Listener, {
  readonly host: string
  /** The port in fact, also where any free one was asked for. */
  readonly port: number
}>()("control/connection/Listener") {
  static readonly layer = Layer.effect(
    Listener,
    Effect.gen(function*() {
      const settings = yield* Settings
      const given = yield* ListeningServer
      const server = given ?? (yield* Effect.acquireRelease(listen(settings), stopListening))
      server.on("upgrade", yield* makeAccept(server))
      const address = server.address()
      const port = typeof address === "object" && address !== null ? address.port : settings.wsPort
      return Listener.of({ host: settings.wsHost, port })
    })
  )
}

/** For the plain HTTP server below: a request that is not finished in time is cut, so that slow senders hold no places. */
export const serverOptions = {
  headersTimeout: 5_000,
  requestTimeout: 10_000,
  connectionsCheckingInterval: 1_000,
  maxHeaderSize: 8_192
}

function listen({ wsHost: host, wsPort: port }: Settings["Service"]): Effect.Effect<Server, PortUnavailable> {
  return Effect.callback((resume) => {
    const server = createServer(serverOptions, answerPlainRequest)
    server.once(
      "error",
      (error: NodeJS.ErrnoException) =>
        resume(Effect.fail(new PortUnavailable({ edge: "ws", host, port, reason: error.code ?? error.message })))
    )
    server.listen({ port, host }, () => resume(Effect.succeed(server)))
  })
}

/** RFC 9110 section 15.5.22: this resource is there, but only for those who upgrade. */
export function answerPlainRequest(_request: unknown, response: ServerResponse): void {
  response.writeHead(426, { "Content-Type": "text/plain", "Upgrade": "websocket", "Connection": "close" })
  response.end("This port speaks WebSocket only.\n")
}

function stopListening(server: Server): Effect.Effect<void> {
  return Effect.sync(() => {
    server.close()
    server.closeAllConnections()
  })
}

/** Gives the handler of upgrades; nobody is let in any more when the scope ends. */
const makeAccept = Effect.fnUntraced(function*(server: Server) {
  const settings = yield* Settings
  const sessions = yield* Sessions
  const wss = new WebSocketServer({
    noServer: true,
    maxPayload: settings.maxMessageBytes,
    perMessageDeflate: false,
    clientTracking: false,
    handleProtocols: (offered) => subprotocols.find((name) => offered.has(name)) ?? false
  })
  yield* Effect.addFinalizer(() => Effect.sync(() => server.close()))

  return (request: IncomingMessage, raw: Duplex, head: Buffer): void => {
    raw.on("error", () => raw.destroy())
    const verdict = judgeRequest(request)
    if (verdict._tag === "Refused") return refuse(raw, verdict.status, verdict.reason)
    const address = addressOf(request)
    const place = sessions.reserve(address)
    if (place === undefined) {
      return refuse(raw, "503 Service Unavailable", "too many connections are waiting to authenticate")
    }
    raw.once("close", () => place.leave())
    wss.handleUpgrade(request, raw, head, (ws) => {
      sessions.serve(new WsSocket(ws, raw), place, { type: verdict.type, level: verdict.level, address })
    })
  }
})

function refuse(raw: Duplex, status: string, reason: string): void {
  const body = `${reason}\n`
  // The peer may leave its half open for ever: once told, it is cut off.
  raw.once("finish", () => raw.destroy())
  const retry = status.startsWith("503") ? "Retry-After: 5\r\n" : ""
  raw.end(
    `HTTP/1.1 ${status}\r\nContent-Type: text/plain\r\nContent-Length: ${
      Buffer.byteLength(body)
    }\r\n${retry}Connection: close\r\n\r\n${body}`
  )
}
