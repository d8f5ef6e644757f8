/** The half of a connection that brings its client's view up to date and keeps it there. */
import type { Client } from "#clients/ClientRegistry.ts"
import { Deliveries } from "#clients/Deliveries.ts"
import { ChangeBus, type Push } from "#feed/ChangeBus.ts"
import { configFrame } from "#feed/frames.ts"
import { Network } from "#feed/Network.ts"
import { encodeConfig } from "#network/encode.ts"
import { reasonToClose } from "#network/membership.ts"
import type { NetworkState } from "#network/NetworkState.ts"
import { Cause, Effect, Metric, Option, PubSub } from "effect"
import type { Buffer } from "node:buffer"
import type { Member } from "./membership.ts"
import { bytesOf, decide, type Position } from "./plan.ts"
import type { Socket, SocketClosed, TooSlow } from "./Socket.ts"

export const makeFollow = Effect.gen(function*() {
  const network = yield* Network
  const deliveries = yield* Deliveries
  const bus = yield* ChangeBus
  const context = yield* Effect.context<never>()
  const count = (metric: Metric.Counter<number>) => metric.updateUnsafe(1, context)

  /** Sends the whole view; gives back what it shows. A client that the network no longer has is closed. */
  const sendConfig = (client: Client, socket: Socket, state: NetworkState, before: Array<Buffer>): Position => {
    const config = encodeConfig(state, client.ref)
    if (config === undefined) {
      socket.close("deleted")
      return { revision: state.revision, configBytes: 0 }
    }
    const frames = configFrame(config)
    socket.write([...before.splice(0), ...frames])
    count(configs)
    deliveries.note(client, state.revision)
    return { revision: state.revision, configBytes: bytesOf(frames) }
  }

  /** Forwards every step after `from` until the socket closes, and fails with that, or when the client is too slow. */
  const forward = Effect.fnUntraced(
    function*(client: Client, socket: Socket, pushes: PubSub.Subscription<Push>, from: Position) {
      let at = from
      while (true) {
        const first = yield* PubSub.take(pushes)
        // Nearly always it is the only one: then nothing is made but what is written.
        const isAlone = Option.getOrElse(PubSub.remainingUnsafe(pushes), () => 0) === 0
        const plan = decide(isAlone ? [first] : [first, ...(yield* PubSub.takeAll(pushes))], at, client.ref)
        if (plan._tag === "Config") {
          at = sendConfig(client, socket, yield* network.state, [])
          if (plan.missed) count(resyncs)
        } else {
          socket.write(plan.frames)
          at = { revision: plan.revision, configBytes: at.configBytes }
          deliveries.note(client, plan.revision)
        }
        if (socket.isBackedUp()) yield* socket.drained
      }
    }
  )

  /** Subscribes first, so what is committed after the snapshot comes by the subscription; what it shows is left out there. */
  const begin = Effect.fnUntraced(function*(client: Client, socket: Socket, before: Array<Buffer>) {
    const pushes = yield* bus.follow(client.ref)
    const state = yield* network.state
    // The session is a member by now: a revocation that comes later finds it, one that came before is found here.
    const reason = reasonToClose(state, client)
    if (reason !== undefined) return socket.close(reason)
    yield* forward(client, socket, pushes, sendConfig(client, socket, state, before))
  }, Effect.scoped)

  /**
   * Starts the member's forwarding fiber; `before` goes out in one write with its first config, and is emptied: a frame that
   * the fiber went on holding would hold the slab of memory that it lies in.
   */
  return (member: Member, socket: Socket, before: Array<Buffer>): Effect.Effect<void> =>
    guarded(begin(member.client, socket, before), socket).pipe(
      Effect.forkChild({ startImmediately: true }),
      Effect.map((fiber) => {
        member.forwarding = fiber
      })
    )
})

/** However forwarding fails, it ends this connection and nothing else. */
function guarded(forwarding: Effect.Effect<void, TooSlow | SocketClosed>, socket: Socket): Effect.Effect<void> {
  return forwarding.pipe(
    Effect.catchTags({
      TooSlow: () => Effect.sync(() => socket.close("tooSlow")),
      SocketClosed: () => Effect.void
    }),
    Effect.catchCause((cause) =>
      Cause.hasInterruptsOnly(cause) ? Effect.void : Effect.andThen(
        Effect.logError("forwarding to a client failed", cause),
        Effect.sync(() => socket.close("defect"))
      )
    )
  )
}

const configs = Metric.counter("control_configs_total", {
  description: "Whole views sent to clients, the first of each connection included",
  incremental: true
})

const resyncs = Metric.counter("control_resyncs_total", {
  description: "Configs sent in place of steps, because the client was too slow for them or the log did not continue",
  incremental: true
})
