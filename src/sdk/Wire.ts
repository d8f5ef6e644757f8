/** One WebSocket to Control, as a queue of what comes and a way to say something. */
import { Effect, Queue, type Scope } from "effect"
import { type ClientRequest, type IncomingMessage } from "node:http"
import { WebSocket } from "ws"

const subprotocol = "control.v1"

/** Far above any view that this client could hold; `ws` alone would take 100 MiB into memory for anybody. */
const longestFrame = 64 * 1_024 * 1_024

/** The connection is over, or never came to be. */
export interface Lost {
  readonly _tag: "Lost"
  /** A close code; the HTTP status of a refused upgrade; 1010 without control.v1; 1006 for everything else. */
  readonly code: number
  readonly reason: string
  /** `Retry-After` of a refused upgrade. */
  readonly afterMillis?: number
}

export type Incoming =
  | { readonly _tag: "Open" }
  | { readonly _tag: "Text"; readonly text: string }
  /** A sign of life that says nothing: a ping. */
  | { readonly _tag: "Alive" }
  | Lost

export interface Wire {
  readonly receive: Effect.Effect<Incoming>
  /** Does nothing unless the connection is open. */
  readonly say: (message: object) => void
  /** Cuts a connection whose other end does not answer any more. */
  readonly cut: () => void
}

/** Begins to connect; `receive` tells how it went. Closed with 1000 when the scope ends. */
export const dial = (url: string): Effect.Effect<Wire, never, Scope.Scope> =>
  Effect.gen(function*() {
    // Without a bound: its one reader decides without waiting, and a server that floods its clients has no reason to.
    const inbox = yield* Queue.unbounded<Incoming>()
    const offer = (incoming: Incoming) => void Queue.offerUnsafe(inbox, incoming)
    const ws = yield* Effect.acquireRelease(Effect.sync(() => open(url, offer)), hangUp)
    return {
      receive: Queue.take(inbox),
      say: (message) => {
        if (ws.readyState === WebSocket.OPEN) ws.send(JSON.stringify(message), () => {})
      },
      cut: () => ws.terminate()
    }
  })

function open(url: string, offer: (incoming: Incoming) => void): WebSocket {
  const ws = new WebSocket(url, [subprotocol], { perMessageDeflate: false, maxPayload: longestFrame })
  let fault = ""
  ws.on("open", () => offer({ _tag: "Open" }))
  ws.on("message", (data, isBinary) => offer(isBinary ? { _tag: "Alive" } : { _tag: "Text", text: String(data) }))
  ws.on("ping", () => offer({ _tag: "Alive" }))
  ws.on("unexpected-response", (request, response) => readRefusal(request, response, offer))
  ws.on("error", (error) => fault = error.message)
  ws.on("close", (code, reason) => {
    if (/subprotocol/u.test(fault)) offer({ _tag: "Lost", code: 1010, reason: `no ${subprotocol}: ${fault}` })
    else offer({ _tag: "Lost", code, reason: String(reason) || fault })
  })
  return ws
}

const longestReason = 500

function readRefusal(request: ClientRequest, response: IncomingMessage, offer: (incoming: Incoming) => void): void {
  let body = ""
  response.setEncoding("utf8")
  response.on("data", (part) => body = (body + String(part)).slice(0, longestReason))
  response.on("close", () => {
    const seconds = Number(response.headers["retry-after"] ?? Number.NaN)
    offer({
      _tag: "Lost",
      code: response.statusCode ?? 1006,
      reason: `the upgrade was refused with HTTP ${response.statusCode}: ${body.trim()}`,
      ...(Number.isNaN(seconds) ? {} : { afterMillis: seconds * 1_000 })
    })
    request.destroy()
  })
}

/** A peer that does not answer the close within two seconds is cut off. */
function hangUp(ws: WebSocket): Effect.Effect<void> {
  return Effect.callback<void>((resume) => {
    if (ws.readyState === WebSocket.CLOSED) return resume(Effect.void)
    ws.once("close", () => resume(Effect.void))
    if (ws.readyState === WebSocket.CONNECTING) ws.terminate()
    else ws.close(1000)
  }).pipe(Effect.timeoutOption("2 seconds"), Effect.andThen(Effect.sync(() => ws.terminate())))
}
