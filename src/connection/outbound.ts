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

/** What a client has been brought up to, and how much that cost when it was done at one go. */
export interface Position {
  readonly revision: Revision
  /** Size of its last config. */
  readonly configBytes: number
}

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
      const plan = decide(waiting, at, client)
      if (plan._tag === "Config") {
        at = yield* sendConfig(client, socket)
        yield* Metric.update(resyncs, plan.missed ? 1 : 0)
      } else {
        if (plan.frames.length > 0) socket.write(plan.frames)
        at = { ...at, revision: plan.revision }
        yield* deliveries.sent(client, plan.revision)
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
 * missed, or a step has no message of its own, or the steps are longer than the whole view, a config takes their place.
 */
function decide(batches: ReadonlyArray<Batch>, at: Position, client: Client): Plan {
  const frames: Array<Buffer> = []
  let { revision } = at
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
  if (bytesOf(frames) > Math.max(waitingLimitBytes, at.configBytes)) return { _tag: "Config", missed: true }
  return { _tag: "Steps", frames, revision }
}

function bytesOf(frames: ReadonlyArray<Buffer>): number {
  return frames.reduce((sum, frame) => sum + frame.length, 0)
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
