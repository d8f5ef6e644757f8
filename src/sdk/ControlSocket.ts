/** One WebSocket to Control: a queue of incoming frames, and methods to send and to terminate. */
import { Effect, Queue, type Scope } from "effect"
import { type ClientRequest, type IncomingMessage } from "node:http"
import { WebSocket } from "ws"
import { type ConnectionProblem, describeClose, describeConnectFailure } from "./connectionProblem.ts"

const subprotocol = "control.v1"

/** Larger than any view. The default of `ws` would let a server make the client buffer 100 MiB. */
const maxFrameBytes = 64 * 1_024 * 1_024

/** The connection has ended or could not be made. */
export interface Disconnected {
  readonly _tag: "Disconnected"
  /** A close code; the HTTP status of a rejected upgrade; 1010 if the server does not offer control.v1; otherwise 1006. */
  readonly code: number
  readonly problem: ConnectionProblem
  readonly reason: string
  /** `Retry-After` of a rejected upgrade. */
  readonly retryAfterMillis?: number
}

export type Incoming =
  | { readonly _tag: "Open" }
  | { readonly _tag: "Text"; readonly text: string }
  /** A ping or a binary frame. Its content is ignored, but it shows that the server is alive. */
  | { readonly _tag: "KeepAlive" }
  | Disconnected

export interface ControlSocket {
  readonly receive: Effect.Effect<Incoming>
  /** Does nothing unless the connection is open. */
  readonly send: (message: object) => void
  /** Ends the connection without a close handshake, for a peer that no longer answers. */
  readonly terminate: () => void
}

/** Starts to connect; `receive` returns the outcome. The socket closes with 1000 when the scope ends. */
export const openSocket = (url: string): Effect.Effect<ControlSocket, never, Scope.Scope> =>
  Effect.gen(function*() {
    // Unbounded: the only reader never waits between frames, and Control has no reason to flood its clients.
    const inbox = yield* Queue.unbounded<Incoming>()
    const offer = (incoming: Incoming) => void Queue.offerUnsafe(inbox, incoming)
    const ws = yield* Effect.acquireRelease(Effect.sync(() => createWebSocket(url, offer)), closeSocket)
    return {
      receive: Queue.take(inbox),
      send: (message) => {
        if (ws.readyState === WebSocket.OPEN) ws.send(JSON.stringify(message), () => {})
      },
      terminate: () => ws.terminate()
    }
  })

function createWebSocket(url: string, offer: (incoming: Incoming) => void): WebSocket {
  const ws = new WebSocket(url, [subprotocol], { perMessageDeflate: false, maxPayload: maxFrameBytes })
  let lastError: Error | undefined
  let wasOpen = false
  ws.on("open", () => {
    wasOpen = true
    offer({ _tag: "Open" })
  })
  ws.on("message", (data, isBinary) => offer(isBinary ? { _tag: "KeepAlive" } : { _tag: "Text", text: String(data) }))
  ws.on("ping", () => offer({ _tag: "KeepAlive" }))
  ws.on("unexpected-response", (request, response) => readRejectedUpgrade(request, response, offer))
  ws.on("error", (error) => lastError = error)
  ws.on("close", (code, reason) => {
    const failure = wasOpen
      ? describeClose(code, String(reason) || (lastError?.message ?? ""))
      : describeConnectFailure(url, lastError)
    // Only a server that speaks WebSocket without control.v1 gets this far.
    const isWithoutProtocol = /subprotocol/u.test(lastError?.message ?? "")
    offer({ _tag: "Disconnected", code: isWithoutProtocol ? 1010 : code, ...failure })
  })
  return ws
}

const maxReasonLength = 500

function readRejectedUpgrade(
  request: ClientRequest,
  response: IncomingMessage,
  offer: (incoming: Incoming) => void
): void {
  let body = ""
  response.setEncoding("utf8")
  response.on("data", (part) => body = (body + String(part)).slice(0, maxReasonLength))
  response.on("close", () => {
    const seconds = Number(response.headers["retry-after"] ?? Number.NaN)
    offer({
      _tag: "Disconnected",
      code: response.statusCode ?? 1006,
      problem: "upgrade-rejected",
      reason: `the upgrade was rejected with HTTP ${response.statusCode}: ${body.trim()}`,
      ...(Number.isNaN(seconds) ? {} : { retryAfterMillis: seconds * 1_000 })
    })
    request.destroy()
  })
}

/** Closes with 1000, and terminates the connection if the peer does not answer the close within 2 s. */
function closeSocket(ws: WebSocket): Effect.Effect<void> {
  return Effect.callback<void>((resume) => {
    if (ws.readyState === WebSocket.CLOSED) return resume(Effect.void)
    ws.once("close", () => resume(Effect.void))
    if (ws.readyState === WebSocket.CONNECTING) ws.terminate()
    else ws.close(1000)
  }).pipe(Effect.timeoutOption("2 seconds"), Effect.andThen(Effect.sync(() => ws.terminate())))
}
