/** A WebSocket server whose frames a test scripts, and a client on the test clock. */
import type { Apply } from "#sdk/ApplyQueue.ts"
import { ReconnectingClient, type ReconnectingClientOptions } from "#sdk/ReconnectingClient.ts"
import type { ClientEvent } from "#sdk/clientEvents.ts"
import type { Change, View } from "#sdk/view.ts"
import { assert } from "@effect/vitest"
import { Deferred, Effect, Queue, Random } from "effect"
import { createServer, type IncomingMessage } from "node:http"
import type { AddressInfo } from "node:net"
import { type WebSocket, WebSocketServer } from "ws"
import { agentConfig, authSuccess } from "./serverFrames.ts"

export interface Frame {
  readonly type: string
  // oxlint-disable-next-line typescript/no-explicit-any -- received frames are checked field by field
  readonly data: Record<string, any>
}

/** The server's side of one client connection. */
export interface ClientConnection {
  readonly request: IncomingMessage
  readonly send: (...frames: ReadonlyArray<object | string>) => void
  /** The client's next frame, which must have this type. */
  readonly expect: (type: string) => Effect.Effect<Frame["data"]>
  /** Number of received frames that `expect` has not consumed. */
  readonly unread: () => number
  readonly close: (code: number) => void
  readonly closed: Effect.Effect<number>
}

export interface ServerOptions {
  /** Rejects the upgrade with this status and these headers. */
  readonly rejectUpgrade?: () => { readonly status: string; readonly headers?: string } | undefined
  readonly protocols?: "control.v1" | "none"
}

/** Starts a server on a free port; `connection` is the client's next connection. */
export const scriptedServer = Effect.fnUntraced(function*(options: ServerOptions = {}) {
  const connectionQueue = yield* Queue.unbounded<ClientConnection>()
  const http = createServer()
  const server = new WebSocketServer({
    noServer: true,
    handleProtocols: () => options.protocols === "none" ? false : "control.v1"
  })
  http.on("upgrade", (request, socket, head) => {
    const rejection = options.rejectUpgrade?.()
    if (rejection !== undefined) {
      socket.end(`HTTP/1.1 ${rejection.status}\r\nConnection: close\r\n${rejection.headers ?? ""}\r\nno such luck\n`)
      return
    }
    server.handleUpgrade(
      request,
      socket,
      head,
      (ws) => void Queue.offerUnsafe(connectionQueue, observeConnection(ws, request))
    )
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => void http.listen(0, "127.0.0.1", () => resume(Effect.void))),
    () =>
      Effect.sync(() => {
        for (const ws of server.clients) ws.terminate()
        http.close()
      })
  )
  const { port } = http.address() as AddressInfo
  return {
    port,
    url: `ws://127.0.0.1:${port}/`,
    connection: Queue.take(connectionQueue),
    connections: () => Queue.sizeUnsafe(connectionQueue)
  }
})

function observeConnection(ws: WebSocket, request: IncomingMessage): ClientConnection {
  const frames = Effect.runSync(Queue.unbounded<Frame | number>())
  const closed = Deferred.makeUnsafe<number>()
  ws.on("message", (data) => Queue.offerUnsafe(frames, JSON.parse(String(data))))
  ws.on("close", (code) => {
    Queue.offerUnsafe(frames, code)
    Deferred.doneUnsafe(closed, Effect.succeed(code))
  })
  return {
    request,
    send: (...sent) => {
      for (const frame of sent) ws.send(typeof frame === "string" ? frame : JSON.stringify(frame))
    },
    expect: (type) =>
      Effect.flatMap(Queue.take(frames), (frame) =>
        typeof frame === "object" && frame.type === type
          ? Effect.succeed(frame.data)
          : Effect.die(new Error(`expected ${type}, got ${JSON.stringify(frame)}`))),
    unread: () => Queue.sizeUnsafe(frames),
    close: (code) => ws.close(code),
    closed: Deferred.await(closed)
  }
}

/** Starts a client on the test clock. Its random numbers are always 0.5. */
export const client = Effect.fnUntraced(
  function*(options: Partial<ReconnectingClientOptions> & { readonly url: string }) {
    const events = yield* Queue.unbounded<ClientEvent>()
    const views: Array<View> = []
    const apply: Apply = (view, change) => {
      views.push(view)
      return options.apply?.(view, change)
    }
    const engine = new ReconnectingClient({
      type: "agent",
      apiKey: () => "key",
      auth: {},
      retryAuth: false,
      stateFile: undefined,
      ...options,
      apply,
      onEvent: (event) => void Queue.offerUnsafe(events, event)
    })
    const fiber = yield* Effect.forkScoped(Effect.provideService(engine.run, Random.Random, fixedRandom))
    const expect = <Type extends ClientEvent["type"]>(
      type: Type
    ): Effect.Effect<Extract<ClientEvent, { type: Type }>> =>
      Effect.flatMap(Queue.take(events), (event) =>
        event.type === type
          ? Effect.succeed(event as Extract<ClientEvent, { type: Type }>)
          : Effect.die(new Error(`expected ${type}, got ${JSON.stringify(event)}`)))
    /** Waits for the `disconnected` event. Only then is the client sleeping, so that the test may advance the clock. */
    const disconnected: Effect.Effect<void> = Effect.flatMap(
      Queue.take(events),
      ({ type }) => type === "disconnected" ? Effect.void : disconnected
    )
    return { engine, fiber, views, expect, disconnected }
  }
)

/** A client that is authenticated and has applied a config at revision 10. */
export const connectedClient = Effect.fnUntraced(function*(apply?: Apply) {
  const server = yield* scriptedServer()
  const agent = yield* client({ url: `${server.url}?type=agent`, ...(apply === undefined ? {} : { apply }) })
  const peer = yield* server.connection
  const auth = yield* peer.expect("auth")
  peer.send(authSuccess({ resumed: false }), agentConfig({ revision: 10, tunnels: ["t0"] }))
  assert.deepStrictEqual(yield* peer.expect("ack"), { revision: 10 })
  yield* agent.expect("connected")
  yield* agent.expect("ready")
  yield* agent.expect("applied")
  return { server, agent, peer, auth }
})

/** An `apply` whose calls the test completes or fails. */
export const controlledApply = () => {
  const calls: Array<{ readonly change: Change; readonly done: () => void; readonly fail: (error: unknown) => void }> =
    []
  let called = Promise.withResolvers<void>()
  let running = 0
  const apply: Apply = (_view, change) => {
    assert.strictEqual(running, 0, "two apply calls at once")
    running += 1
    const { promise, reject, resolve } = Promise.withResolvers<void>()
    calls.push({ change, done: resolve, fail: reject })
    called.resolve()
    return promise.finally(() => running -= 1)
  }
  const next = Effect.promise(async () => {
    while (calls.length === 0) await called.promise
    called = Promise.withResolvers<void>()
    return calls.shift() ?? assert.fail()
  })
  return { apply, next, pendingCalls: () => calls.length }
}

const fixedRandom = { nextDoubleUnsafe: () => 0.5, nextIntUnsafe: () => 0 }
