/** The half of a connection that brings its client's view up to date and keeps it there. */
import type { Client } from "#clients/ClientRegistry.ts"
import { Deliveries } from "#clients/Deliveries.ts"
import type { Batch } from "#feed/Batch.ts"
import { textFrameInTwo } from "#feed/frames.ts"
import { Network } from "#feed/Network.ts"
import { encodeConfig } from "#network/encode.ts"
import { Effect, Metric, PubSub } from "effect"
import type { Buffer } from "node:buffer"
import { bytesOf, decide, type Position, waitingLimitBytes } from "./plan.ts"
import type { Socket } from "./Socket.ts"

/** Sends the whole view; gives back what it shows. A client that the network no longer has is closed. */
export const sendConfig = Effect.fnUntraced(
  function*(client: Client, socket: Socket, ...before: ReadonlyArray<Buffer>) {
    const network = yield* Network
    const deliveries = yield* Deliveries
    const state = yield* network.state
    const config = encodeConfig(state, client.ref)
    if (config === undefined) {
      yield* client.close("deleted")
      return { revision: state.revision, configBytes: 0 }
    }
    const frames = textFrameInTwo(config.own, config.shared)
    socket.write([...before, ...frames])
    yield* Metric.update(configs, 1)
    yield* deliveries.sent(client, state.revision)
    return { revision: state.revision, configBytes: bytesOf(frames) }
  }
)

/** Forwards every step after `from` until the socket closes. Fails only when the client is too slow. */
export const forward = Effect.fnUntraced(
  function*(client: Client, socket: Socket, batches: PubSub.Subscription<Batch>, from: Position) {
    const deliveries = yield* Deliveries
    let at = from
    while (true) {
      const waiting = yield* PubSub.takeAll(batches)
      const plan = decide(waiting, at, client.ref)
      if (plan._tag === "Config") {
        at = yield* sendConfig(client, socket)
        if (plan.missed) yield* Metric.update(resyncs, 1)
      } else {
        if (plan.frames.length > 0) {
          socket.write(plan.frames)
          yield* Metric.update(pushes, 1)
        }
        at = { ...at, revision: plan.revision }
        yield* deliveries.sent(client, plan.revision)
      }
      if (socket.waiting() > waitingLimitBytes) yield* socket.drained
    }
  }
)

const pushes = Metric.counter("control_pushes_total", {
  description: "Writes of steps to clients; what waits for one client goes out in one",
  incremental: true
})

const configs = Metric.counter("control_configs_total", {
  description: "Whole views sent to clients, the first of each connection included",
  incremental: true
})

const resyncs = Metric.counter("control_resyncs_total", {
  description: "Configs sent because a client was too slow for the steps",
  incremental: true
})
