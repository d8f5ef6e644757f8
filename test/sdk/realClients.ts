/** Agent and gateway clients on the real clock, whose events a test awaits. */
import { type AgentOptions, type ClientEvent, type GatewayOptions, startAgent, startGateway } from "#sdk/Client.ts"
import { Effect, Queue } from "effect"
import { createConnection, createServer, type Socket } from "node:net"

type Of<Type extends ClientEvent["type"]> = Extract<ClientEvent, { readonly type: Type }>

const eventQueue = Effect.map(Queue.unbounded<ClientEvent>(), (events) => ({
  onEvent: (event: ClientEvent) => void Queue.offerUnsafe(events, event),
  /** The next event of this type; events before it are dropped. */
  until: <Type extends ClientEvent["type"]>(type: Type): Effect.Effect<Of<Type>> => {
    const next: Effect.Effect<Of<Type>> = Effect.flatMap(
      Queue.take(events),
      (event) => event.type === type ? Effect.succeed(event as Of<Type>) : next
    )
    return next
  }
}))

type PartialOptions<Options> = Omit<Options, "apply" | "onEvent"> & Partial<Options>

/** Starts a client, which closes when the scope ends. */
export const agent = Effect.fnUntraced(function*(options: PartialOptions<AgentOptions>) {
  const { onEvent, until } = yield* eventQueue
  const client = yield* Effect.acquireRelease(
    Effect.sync(() => startAgent({ apply: () => {}, ...options, onEvent })),
    (client) => Effect.promise(() => client.close())
  )
  return { ...client, until }
})

export const gateway = Effect.fnUntraced(function*(options: PartialOptions<GatewayOptions>) {
  const { onEvent, until } = yield* eventQueue
  const client = yield* Effect.acquireRelease(
    Effect.sync(() => startGateway({ apply: () => {}, ...options, onEvent })),
    (client) => Effect.promise(() => client.close())
  )
  return { ...client, until }
})

/** A TCP proxy to a local port that counts the bytes sent to clients. */
export const countingProxy = (port: number) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly url: string; readonly bytes: () => number; readonly close: () => void }>((resume) => {
      const sockets = new Set<Socket>()
      let bytes = 0
      const server = createServer((client) => {
        const upstream = createConnection(port, "127.0.0.1")
        for (const socket of [client, upstream]) {
          sockets.add(socket)
          socket.on("error", () => {})
          socket.on("close", () => [client, upstream].forEach((each) => each.destroy()))
        }
        upstream.on("data", (data) => bytes += data.length)
        client.pipe(upstream).pipe(client)
      })
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        const url = `ws://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`
        const close = () => {
          for (const socket of sockets) socket.destroy()
          server.close()
        }
        resume(Effect.succeed({ url, bytes: () => bytes, close }))
      })
    }),
    ({ close }) => Effect.sync(close)
  )
