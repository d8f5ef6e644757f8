/** Listens on the WebSocket port, validates upgrades, and hands each socket to `Connections`. */
import { subprotocols } from "#schema/protocol.ts"
import { connectionGateOf } from "#ingress/ConnectionGate.ts"
import { makeRequestCheck } from "#ingress/requestCheck.ts"
import { Ingress } from "#ingress/Ingress.ts"
import { PortUnavailable } from "#ingress/PortUnavailable.ts"
import { listenOptions, Settings } from "#server/Settings.ts"
import { Context, Effect, Layer } from "effect"
import { type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from "node:http"
import type { Duplex } from "node:stream"
import { WebSocketServer } from "ws"
import { Connections } from "./Connections.ts"
import { parseUpgrade } from "./upgrade.ts"
import { WsSocket } from "./WsSocket.ts"

/** An HTTP server that already listens, for programs that need the port before everything else is ready. */
export const ListeningServer = Context.Reference<Server | undefined>("control/connection/ListeningServer", {
  defaultValue: () => undefined
})

export class Listener extends Context.Service<Listener, {
  readonly host: string
  /** The port that is bound, also if the settings ask for any free port. */
  readonly port: number
}>()("control/connection/Listener") {
  static readonly layer = Layer.effect(
    Listener,
    Effect.gen(function*() {
      const settings = yield* Settings
      const given = yield* ListeningServer
      const edge = yield* Ingress
      const server = given ??
        (yield* Effect.acquireRelease(
          listen(edge.create("ws", requestBounds, answerPlainRequest), settings),
          stopListening
        ))
      yield* edge.supervise("ws", server)
      server.on("upgrade", yield* makeAccept(server))
      const address = server.address()
      const port = typeof address === "object" && address !== null ? address.port : settings.wsPort
      return Listener.of({ host: settings.wsHost, port })
    })
  )
}

/** Bounds of an upgrade request, which is small and has no body. */
export const requestBounds = { requestTimeout: 10_000, maxHeaderSize: 8_192 }

function listen(
  server: Server,
  { wsHost: host, wsPort: port }: Settings["Service"]
): Effect.Effect<Server, PortUnavailable> {
  return Effect.callback((resume) => {
    const onError = (error: NodeJS.ErrnoException) =>
      resume(Effect.fail(new PortUnavailable({ portName: "ws", host, port, reason: error.code ?? error.message })))
    server.once("error", onError)
    server.listen(listenOptions(host, port), () => {
      server.off("error", onError)
      resume(Effect.succeed(server))
    })
  })
}

/** Headers of every answer that does not upgrade. */
const plainHeaders = { "Content-Type": "text/plain", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store" }

const plainAnswer = `This is Control's port for agents and gateways. It accepts WebSocket connections only.

Agents connect to /?type=agent and gateways to /?type=gateway. The first message is
{"type":"auth","data":{"apiKey":"YOUR_API_KEY"}}.

Operators use the HTTP API on its own port (CONTROL_API_PORT, 3000 by default), where /docs describes it.
`

/** Answers a request without an upgrade with 426 (RFC 9110 section 15.5.22). */
export function answerPlainRequest(_request: unknown, response: ServerResponse): void {
  response.writeHead(426, { ...plainHeaders, "Upgrade": "websocket", "Connection": "close" })
  response.end(plainAnswer)
}

function stopListening(server: Server): Effect.Effect<void> {
  return Effect.andThen(
    Effect.logDebug("shutdown: the WebSocket port accepts no more connections"),
    Effect.sync(() => {
      server.close()
      server.closeAllConnections()
    })
  )
}

/** Options of `ws`. test/hostile/rfc6455.all.test.ts checks RFC 6455 with exactly these options. */
export const webSocketOptions = (maxPayload: number) => ({
  noServer: true,
  maxPayload,
  perMessageDeflate: false,
  clientTracking: false,
  handleProtocols: (offered: Set<string>) => subprotocols.find((name) => offered.has(name)) ?? false
})

const tooManyWebSockets =
  "too many WebSockets are open, or too many of this address are not authenticated; see CONTROL_MAX_CONNECTIONS and " +
  "CONTROL_MAX_UNAUTHENTICATED_PER_IP"

/** Returns the handler of upgrade requests. When the scope ends, no more connections are accepted. */
const makeAccept = Effect.fnUntraced(function*(server: Server) {
  const settings = yield* Settings
  const connections = yield* Connections
  const edge = yield* Ingress
  const admit = makeRequestCheck("ws", settings)
  const gate = connectionGateOf(server)
  const { maxBytesPerSecond } = settings
  const byteLimit = { perSecond: maxBytesPerSecond, burst: maxBytesPerSecond * 4 }
  const wss = new WebSocketServer(webSocketOptions(settings.maxMessageBytes))
  yield* Effect.addFinalizer(() => Effect.sync(() => server.close()))

  return (request: IncomingMessage, raw: Duplex, head: Buffer): void => {
    raw.on("error", () => raw.destroy())
    const admission = admit(request)
    if (admission._tag === "Rejected") return refuse(raw, admission.status, admission.reason)
    const verdict = parseUpgrade(request)
    if (verdict._tag === "Refused") return refuse(raw, 400, verdict.reason)
    const { address } = admission
    const slot = connections.reserve(address)
    if (slot === undefined) {
      edge.reportRefusal("ws", "upgrade", `rejected an upgrade from ${address} with 503: ${tooManyWebSockets}`)
      return refuse(raw, 503, "too many connections, or too many that have not authenticated; try again later")
    }
    raw.once("close", () => slot.release())
    gate?.release(request.socket)
    wss.handleUpgrade(request, raw, head, (ws) => {
      connections.serve(new WsSocket(ws, raw, byteLimit), slot, {
        type: verdict.type,
        level: verdict.level,
        address
      })
    })
  }
})

function refuse(raw: Duplex, status: number, reason: string): void {
  const body = `${reason}\n`
  // The peer may never close its half of the connection, so that the socket is destroyed after the answer.
  raw.once("finish", () => raw.destroy())
  const headers = {
    ...plainHeaders,
    "Content-Length": Buffer.byteLength(body),
    ...(status === 503 ? { "Retry-After": 5 } : {}),
    "Connection": "close"
  }
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`)
  raw.end([`HTTP/1.1 ${status} ${STATUS_CODES[status]}`, ...lines, "", body].join("\r\n"))
}
