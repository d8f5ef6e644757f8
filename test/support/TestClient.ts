/** A client whose messages a test scripts and awaits. */
import { Deferred, Effect, Queue, type Scope } from "effect"
import type { Socket } from "node:net"
import { WebSocket } from "ws"
import { secretScanner } from "./SecretScanner.ts"
import { collectFrame, type FrameReceiver } from "./collectOutput.ts"

export interface Message {
  readonly type: string
  /** The revision of a config or delta in `control.v1`. */
  readonly revision?: number
  readonly previous?: number
  readonly timeline?: string
  // oxlint-disable-next-line typescript/no-explicit-any -- received messages are checked field by field
  readonly data: Record<string, any>
}

export interface Closed {
  readonly code: number
  readonly reason: string
}

export interface TestClient {
  readonly ws: WebSocket
  readonly send: (message: unknown) => void
  /** The next message. Fails the test if the socket closes first. */
  readonly next: Effect.Effect<Message>
  /** The next message, which must have this type. */
  readonly expect: (type: string) => Effect.Effect<Message>
  /** Number of received messages that the test has not consumed. */
  readonly unread: () => number
  readonly closed: Effect.Effect<Closed>
}

/** Connects a client, which is terminated when the scope ends. */
export const connect = Effect.fnUntraced(function*(
  port: number,
  query = "",
  options: {
    readonly protocols?: ReadonlyArray<string>
    readonly autoPong?: boolean
    readonly headers?: Readonly<Record<string, string>>
    /** Creates the socket, for example with TLS. */
    readonly createConnection?: () => Socket
  } = {}
): Effect.fn.Return<TestClient, Error, Scope.Scope> {
  const inbox = yield* Queue.unbounded<Message | Closed>()
  const closed = yield* Deferred.make<Closed>()
  const ws = yield* Effect.acquireRelease(
    Effect.callback<WebSocket, Error>((resume) => {
      const { createConnection } = options
      const socket = new WebSocket(`ws://127.0.0.1:${port}/${query}`, [...options.protocols ?? []], {
        autoPong: options.autoPong ?? true,
        headers: options.headers ?? {},
        ...createConnection === undefined ? {} : { createConnection }
      })
      const reader: FrameReceiver = { isAgent: !query.includes("type=gateway") }
      socket.on("message", (data) => {
        collectFrame(String(data), reader)
        Queue.offerUnsafe(inbox, JSON.parse(String(data)))
      })
      socket.on("close", (code, reason) => {
        const end = { code, reason: String(reason) }
        secretScanner.addOutput("close reason", end.reason)
        Queue.offerUnsafe(inbox, end)
        Deferred.doneUnsafe(closed, Effect.succeed(end))
      })
      socket.once("open", () => resume(Effect.succeed(socket)))
      socket.on("error", (error) => resume(Effect.fail(error)))
    }),
    (socket) => Effect.sync(() => socket.terminate())
  )
  const next = Effect.flatMap(
    Queue.take(inbox),
    (item) =>
      "type" in item
        ? Effect.succeed(item)
        : Effect.die(new Error(`closed with ${item.code} ${item.reason} while the test waited for a message`))
  )
  return {
    ws,
    send: (message) => ws.send(typeof message === "string" ? message : JSON.stringify(message)),
    next,
    expect: (type) =>
      Effect.flatMap(next, (message) =>
        message.type === type
          ? Effect.succeed(message)
          : Effect.die(new Error(`expected ${type}, got ${JSON.stringify(message).slice(0, 300)}`))),
    unread: () => Queue.sizeUnsafe(inbox),
    closed: Deferred.await(closed)
  }
})

/** The same as `join` for `control.v1`, but consumes only `auth_success`. `more`: additional fields of `auth`. */
export const joinV1 = Effect.fnUntraced(
  function*(port: number, type: "agent" | "gateway", apiKey: string, more: object = {}) {
    const client = yield* connect(port, `?type=${type}`, { protocols: ["control.v1"] })
    client.send({ type: "auth", data: { apiKey, ...more } })
    const success = yield* client.expect("auth_success")
    return { ...client, success }
  }
)

/** Connects, authenticates, and consumes `auth_success` and the first `config`. */
export const join = Effect.fnUntraced(
  function*(port: number, type: "agent" | "gateway", apiKey: string, publicIp?: string) {
    const client = yield* connect(port, `?type=${type}`)
    client.send({ type: "auth", data: { apiKey, ...(publicIp === undefined ? {} : { publicIp }) } })
    const success = yield* client.expect("auth_success")
    const config = yield* client.expect("config")
    return { ...client, success, config }
  }
)
