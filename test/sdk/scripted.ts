/** Control's part, played by a test: a WebSocket server that says what it is told to, and a client under a clock of the test. */
import type { Apply } from "#sdk/Applier.ts"
import { Engine, type Options } from "#sdk/Engine.ts"
import type { Event } from "#sdk/events.ts"
import type { Change, View } from "#sdk/view.ts"
import { assert } from "@effect/vitest"
import { Deferred, Effect, Queue, Random } from "effect"
import { createServer, type IncomingMessage } from "node:http"
import type { AddressInfo } from "node:net"
import { type WebSocket, WebSocketServer } from "ws"
import { agentConfig, welcome } from "./frames.ts"

export interface Frame {
  readonly type: string
  // oxlint-disable-next-line typescript/no-explicit-any -- what comes off the wire is looked at field by field
  readonly data: Record<string, any>
}

/** One connection of the client, seen from the other end. */
export interface Peer {
  readonly request: IncomingMessage
  readonly say: (...frames: ReadonlyArray<object | string>) => void
  /** The client's next frame, which must have this type. */
  readonly expect: (type: string) => Effect.Effect<Frame["data"]>
  /** Frames that have come and were not taken. */
  readonly waiting: () => number
  readonly close: (code: number) => void
  readonly closed: Effect.Effect<number>
}

export interface ScriptedOptions {
  /** Answers the upgrade with this status and these headers instead. */
  readonly refuse?: () => { readonly status: string; readonly headers?: string } | undefined
  readonly protocols?: "control.v1" | "none"
}

/** A server on a free port; `connection` is the client's next one. */
export const scripted = Effect.fnUntraced(function*(options: ScriptedOptions = {}) {
  const peers = yield* Queue.unbounded<Peer>()
  const http = createServer()
  const server = new WebSocketServer({
    noServer: true,
    handleProtocols: () => options.protocols === "none" ? false : "control.v1"
  })
  http.on("upgrade", (request, socket, head) => {
    const refusal = options.refuse?.()
    if (refusal !== undefined) {
      socket.end(`HTTP/1.1 ${refusal.status}\r\nConnection: close\r\n${refusal.headers ?? ""}\r\nno such luck\n`)
      return
    }
    server.handleUpgrade(request, socket, head, (ws) => void Queue.offerUnsafe(peers, peerOf(ws, request)))
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
    connection: Queue.take(peers),
    connections: () => Queue.sizeUnsafe(peers)
  }
})

function peerOf(ws: WebSocket, request: IncomingMessage): Peer {
  const frames = Effect.runSync(Queue.unbounded<Frame | number>())
  const closed = Deferred.makeUnsafe<number>()
  ws.on("message", (data) => Queue.offerUnsafe(frames, JSON.parse(String(data))))
  ws.on("close", (code) => {
    Queue.offerUnsafe(frames, code)
    Deferred.doneUnsafe(closed, Effect.succeed(code))
  })
  return {
    request,
    say: (...said) => {
      for (const frame of said) ws.send(typeof frame === "string" ? frame : JSON.stringify(frame))
    },
    expect: (type) =>
      Effect.flatMap(Queue.take(frames), (frame) =>
        typeof frame === "object" && frame.type === type
          ? Effect.succeed(frame.data)
          : Effect.die(new Error(`expected ${type}, got ${JSON.stringify(frame)}`))),
    waiting: () => Queue.sizeUnsafe(frames),
    close: (code) => ws.close(code),
    closed: Deferred.await(closed)
  }
}

/** A client on the test's clock, whose chance is always one half. */
export const client = Effect.fnUntraced(function*(options: Partial<Options> & { readonly url: string }) {
  const events = yield* Queue.unbounded<Event>()
  const views: Array<View> = []
  const apply: Apply = (view, change) => {
    views.push(view)
    return options.apply?.(view, change)
  }
  const engine = new Engine({
    type: "agent",
    apiKey: () => "key",
    auth: {},
    stateFile: undefined,
    ...options,
    apply,
    onEvent: (event) => void Queue.offerUnsafe(events, event)
  })
  const fiber = yield* Effect.forkScoped(Effect.provideService(engine.run, Random.Random, half))
  const expect = <Type extends Event["type"]>(type: Type): Effect.Effect<Extract<Event, { type: Type }>> =>
    Effect.flatMap(Queue.take(events), (event) =>
      event.type === type
        ? Effect.succeed(event as Extract<Event, { type: Type }>)
        : Effect.die(new Error(`expected ${type}, got ${JSON.stringify(event)}`)))
  /** The connection is lost, and the client waits: only now may the clock be moved. */
  const lost: Effect.Effect<void> = Effect.flatMap(
    Queue.take(events),
    ({ type }) => type === "disconnected" ? Effect.void : lost
  )
  return { engine, fiber, views, expect, lost }
})

/** A client that is ready and has applied a config at revision 10. */
export const joined = Effect.fnUntraced(function*(apply?: Apply) {
  const server = yield* scripted()
  const agent = yield* client({ url: `${server.url}?type=agent`, ...(apply === undefined ? {} : { apply }) })
  const peer = yield* server.connection
  const auth = yield* peer.expect("auth")
  peer.say(welcome({ resumed: false }), agentConfig({ revision: 10, tunnels: ["t0"] }))
  assert.deepStrictEqual(yield* peer.expect("ack"), { revision: 10 })
  yield* agent.expect("connected")
  yield* agent.expect("ready")
  yield* agent.expect("applied")
  return { server, agent, peer, auth }
})

/** `apply` that goes on only when it is told to. */
export const held = () => {
  const calls: Array<{ readonly change: Change; readonly done: () => void; readonly fail: (error: unknown) => void }> =
    []
  let called = Promise.withResolvers<void>()
  let running = 0
  const apply: Apply = (_view, change) => {
    assert.strictEqual(running, 0, "two at once")
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
  return { apply, next, waiting: () => calls.length }
}

const half = { nextDoubleUnsafe: () => 0.5, nextIntUnsafe: () => 0 }
