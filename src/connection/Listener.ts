/** The WebSocket port: judges upgrades, gives each socket a supervised fiber, and drains on the way out. */
import { monotonicMillisUnsafe } from "#clients/monotonic.ts"
import { Settings } from "#Settings.ts"
import { Cause, Clock, Context, Duration, Effect, FiberSet, Layer, Metric, Schedule, Schema } from "effect"
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import type { Duplex } from "node:stream"
import { type WebSocket, WebSocketServer } from "ws"
import { makeServe } from "./Connection.ts"
import { Socket, type TooSlow } from "./Socket.ts"
import { addressOf, judgeRequest, type Upgrade, WaitingRoom } from "./upgrade.ts"

/** The port cannot be listened on. */
export class PortUnavailable extends Schema.TaggedError<PortUnavailable>()("PortUnavailable", {
  host: Schema.String,
  port: Schema.Int,
  reason: Schema.String
}) {
  override get message(): string {
    const why = this.reason === "EADDRINUSE" ? "it is in use by another process" : this.reason
    return `cannot listen for agents and gateways on ${this.host}:${this.port}: ${why} (CONTROL_WS_HOST, CONTROL_WS_PORT)`
  }
}

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
        resume(Effect.fail(new PortUnavailable({ host, port, reason: error.code ?? error.message })))
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

/** How often it is looked for sockets whose time to authenticate is over. */
const lookEvery = Duration.millis(500)

/**
 * Gives the handler of upgrades. When the scope ends nobody is let in any more, every socket is closed (1012), and the last
 * one is waited for.
 */
const makeAccept = Effect.fnUntraced(function*(server: Server) {
  const settings = yield* Settings
  const clock = yield* Clock.Clock
  const serve = yield* makeServe
  const room = new WaitingRoom<Socket>(settings.maxUnauthenticated, settings.maxUnauthenticatedPerIp)
  const wss = new WebSocketServer({
    noServer: true,
    maxPayload: settings.maxMessageBytes,
    perMessageDeflate: false,
    clientTracking: false
  })
  const open = new Map<WebSocket, Socket>()
  const fibers = yield* FiberSet.make<void, never>()
  const run = yield* FiberSet.runtime(fibers)<never>()

  yield* Effect.addFinalizer(() =>
    Effect.gen(function*() {
      server.close()
      yield* Effect.logInfo(`shutting down: ${open.size} connections are closed`)
      for (const socket of open.values()) socket.close("restarting")
      yield* Effect.forEach([...open.keys()], closed, { concurrency: "unbounded", discard: true })
      yield* FiberSet.awaitEmpty(fibers)
    })
  )

  const authTimeout = Duration.toMillis(settings.authTimeout)
  yield* Effect.sync(() => {
    for (const socket of room.overdue(monotonicMillisUnsafe(clock) - authTimeout)) socket.close("silent")
  }).pipe(Effect.repeat(Schedule.spaced(lookEvery)), Effect.forkScoped)

  return (request: IncomingMessage, raw: Duplex, head: Buffer): void => {
    raw.on("error", () => raw.destroy())
    const verdict = judgeRequest(request)
    if (verdict._tag === "Refused") return refuse(raw, verdict.status, verdict.reason)
    const address = addressOf(request)
    const place = room.enter(address, monotonicMillisUnsafe(clock))
    if (place === undefined) {
      return refuse(raw, "503 Service Unavailable", "too many connections are waiting to authenticate")
    }
    raw.once("close", () => place.leave())
    wss.handleUpgrade(request, raw, head, (ws) => {
      const socket = new Socket(ws, raw)
      open.set(ws, socket)
      ws.once("close", () => open.delete(ws))
      place.seat(socket)
      const upgrade: Upgrade = {
        type: verdict.type,
        address,
        heard: () => place.stopClock(),
        admitted: () => place.leave()
      }
      run(supervised(serve(socket, upgrade), socket, address))
    })
  }
})

/** A connection that fails inside is closed (1011) and counted; no other notices. */
function supervised(conversation: Effect.Effect<void, TooSlow>, socket: Socket, address: string): Effect.Effect<void> {
  return conversation.pipe(
    Effect.catchCause((cause) => {
      if (Cause.hasInterruptsOnly(cause)) return Effect.void
      if (cause.reasons.some((reason) => Cause.isFailReason(reason))) return Effect.sync(() => socket.close("tooSlow"))
      return Effect.gen(function*() {
        yield* Effect.logError(`a session with ${address} failed inside`, cause)
        yield* Metric.update(defects, 1)
        socket.close("defect")
      })
    }),
    Effect.ensuring(Effect.sync(() => socket.close("normal")))
  )
}

function closed(ws: WebSocket): Effect.Effect<void> {
  return Effect.callback((resume) => {
    if (ws.readyState === ws.CLOSED) return resume(Effect.void)
    ws.once("close", () => resume(Effect.void))
  })
}

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

const defects = Metric.counter("control_session_defects_total", {
  description: "Sessions that ended by a fault of the server",
  incremental: true
})
