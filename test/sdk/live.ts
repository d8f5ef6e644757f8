/** An agent or a gateway over the real library and the real clock, whose events a test waits for. */
import { type AgentOptions, type Event, type GatewayOptions, startAgent, startGateway } from "#sdk/Client.ts"
import { Effect, Queue } from "effect"
import { createConnection, createServer, type Socket } from "node:net"

type Of<Type extends Event["type"]> = Extract<Event, { readonly type: Type }>

const watching = Effect.map(Queue.unbounded<Event>(), (events) => ({
  onEvent: (event: Event) => void Queue.offerUnsafe(events, event),
  /** The next event of this type; others before it are of no interest. */
  until: <Type extends Event["type"]>(type: Type): Effect.Effect<Of<Type>> => {
    const next: Effect.Effect<Of<Type>> = Effect.flatMap(
      Queue.take(events),
      (event) => event.type === type ? Effect.succeed(event as Of<Type>) : next
    )
    return next
  }
}))

type Given<Options> = Omit<Options, "apply" | "onEvent"> & Partial<Options>

/** Closed when the scope ends. */
export const agent = Effect.fnUntraced(function*(options: Given<AgentOptions>) {
  const { onEvent, until } = yield* watching
  const client = yield* Effect.acquireRelease(
    Effect.sync(() => startAgent({ apply: () => {}, ...options, onEvent })),
    (client) => Effect.promise(() => client.close())
  )
  return { ...client, until }
})

export const gateway = Effect.fnUntraced(function*(options: Given<GatewayOptions>) {
  const { onEvent, until } = yield* watching
  const client = yield* Effect.acquireRelease(
    Effect.sync(() => startGateway({ apply: () => {}, ...options, onEvent })),
    (client) => Effect.promise(() => client.close())
  )
  return { ...client, until }
})

/** A way to a port of this machine on which what comes back is counted. */
export const countingProxy = (port: number) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly url: string; readonly bytes: () => number; readonly close: () => void }>((resume) => {
      const sockets = new Set<Socket>()
      let bytes = 0
      const server = createServer((near) => {
        const far = createConnection(port, "127.0.0.1")
        for (const socket of [near, far]) {
          sockets.add(socket)
          socket.on("error", () => {})
          socket.on("close", () => [near, far].forEach((each) => each.destroy()))
        }
        far.on("data", (data) => bytes += data.length)
        near.pipe(far).pipe(near)
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
