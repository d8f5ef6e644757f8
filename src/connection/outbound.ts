/** The half of a connection that brings its client's view up to date and keeps it there. */
import type { Client } from "#clients/ClientRegistry.ts"
import { Deliveries } from "#clients/Deliveries.ts"
import type { Batch } from "#feed/Batch.ts"
import { textFrameInTwo } from "#feed/frames.ts"
import { Network } from "#feed/Network.ts"
import { encodeConfig } from "#network/encode.ts"
import type { Delta } from "#network/step.ts"
import type { Revision } from "#schema/ids.ts"
import { Effect, Metric, PubSub } from "effect"
import type { Buffer } from "node:buffer"
import type { Socket } from "./Socket.ts"

/** More than this is not written on top of what waits: the batches that come meanwhile are dropped, and one config makes up for them. */
export const waitingLimitBytes = 1024 * 1024

/** Sends the whole view; gives back the revision that it shows. A client that the network no longer has is closed. */
export const sendConfig = Effect.fnUntraced(function*(client: Client, socket: Socket, ...before: ReadonlyArray<Buffer>) {
  const network = yield* Network
  const deliveries = yield* Deliveries
  const state = yield* network.state
  const config = encodeConfig(state, client.ref)
  if (config === undefined) {
    yield* client.close("deleted")
    return state.revision
  }
  socket.write([...before, ...textFrameInTwo(config.own, config.shared)])
  yield* deliveries.sent(client, state.revision)
  return state.revision
})

/** Forwards every step after `from` until the socket closes. Fails only when the client is too slow. */
export const forward = Effect.fnUntraced(
  function*(client: Client, socket: Socket, batches: PubSub.Subscription<Batch>, from: Revision) {
    const deliveries = yield* Deliveries
    let at = from
    while (true) {
      const waiting = yield* PubSub.takeAll(batches)
      const plan = decide(waiting, at, client)
      if (plan._tag === "Config") {
        at = yield* sendConfig(client, socket)
        yield* Metric.update(resyncs, plan.missed ? 1 : 0)
      } else {
        if (plan.frames.length > 0) socket.write(plan.frames)
        at = plan.revision
        yield* deliveries.sent(client, at)
      }
      if (socket.waiting() > waitingLimitBytes) yield* socket.drained
    }
  }
)

type Plan =
  | { readonly _tag: "Config"; readonly missed: boolean }
  | { readonly _tag: "Steps"; readonly frames: ReadonlyArray<Buffer>; readonly revision: Revision }

/**
 * A batch continues the view when its predecessor has been seen; what the view already has is left out. Where something was
 * missed, or a step has no message of its own, a config takes the place of all of them.
 */
function decide(batches: ReadonlyArray<Batch>, at: Revision, client: Client): Plan {
  const frames: Array<Buffer> = []
  let revision = at
  for (const batch of batches) {
    if (batch.previous > revision) return { _tag: "Config", missed: true }
    if (batch.revision <= revision) continue
    if (batch.steps.some((step) => step.revision > revision && needsConfig(step.delta, client))) {
      return { _tag: "Config", missed: false }
    }
    const newer = batch.framesAfter(revision)
    if (newer.length > 0) frames.push(newer)
    revision = batch.revision
  }
  return { _tag: "Steps", frames, revision }
}

function needsConfig(delta: Delta, client: Client): boolean {
  switch (delta._tag) {
    case "Message":
      return false
    case "Whole":
      return true
    case "WholeFor":
      return delta.gateway === client.ref.id
  }
}

const resyncs = Metric.counter("control_resyncs_total", {
  description: "Configs sent because a client was too slow for the steps",
  incremental: true
})
