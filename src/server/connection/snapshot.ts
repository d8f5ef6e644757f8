/** A client's view on its way: whole, or where the client says what it has, only what it missed. */
import type { Client } from "#clients/ClientRegistry.ts"
import { Deliveries } from "#clients/Deliveries.ts"
import { configFrame, textFrame } from "#views/frames.ts"
import { encodeConfig, leastConfigBytes } from "#views/encodeConfig.ts"
import { reasonToClose } from "#network/revocation.ts"
import type { NetworkState } from "#network/NetworkState.ts"
import { type Receiver, receiverIn } from "#views/messages.ts"
import type { Resume } from "#schema/clientMessages.ts"
import { encodeMessage } from "#schema/protocol.ts"
import { Effect, Metric } from "effect"
import type { Buffer } from "node:buffer"
import { missedBy } from "./replay.ts"
import { bytesOf, type ConnectionPosition } from "./updatePlan.ts"
import type { Socket } from "./Socket.ts"
import { makeAuthSuccess } from "./authSuccess.ts"

/** Where a client is, and as whom it is told the next step. */
export interface Following {
  readonly at: ConnectionPosition
  readonly receiver: Receiver
}

export const makeSnapshots = Effect.gen(function*() {
  const deliveries = yield* Deliveries
  const welcomeFor = yield* makeAuthSuccess
  const context = yield* Effect.context<never>()
  const count = (metric: Metric.Counter<number>) => metric.updateUnsafe(1, context)

  const begin = (client: Client, receiver: Receiver, at: ConnectionPosition): Following => {
    deliveries.begin(client, at)
    return { at, receiver }
  }

  /** Sends the whole view; gives back what it shows. A client that the network no longer has is closed. */
  const sendConfig = (
    client: Client,
    socket: Socket,
    state: NetworkState,
    before: Array<Buffer>
  ): Following | undefined => {
    const receiver = receiverIn(state, client.ref, client.level)
    const config = encodeConfig(state, client.ref, client.level)
    if (config === undefined || receiver === undefined) {
      socket.close(reasonToClose(state, client) ?? "defect")
      return undefined
    }
    const frames = configFrame(config)
    socket.write([...before.splice(0), ...frames])
    count(configs)
    const { revision, timeline } = state
    return begin(client, receiver, { timeline, revision, told: revision, configBytes: bytesOf(frames) })
  }

  /** As `sendConfig`, but where it can be told what the client has missed, only that. */
  const welcome = (
    client: Client,
    socket: Socket,
    state: NetworkState,
    from: Resume | undefined
  ): Following | undefined => {
    const receiver = receiverIn(state, client.ref, client.level)
    const missed = receiver === undefined || from === undefined ? undefined : missedBy(state, receiver, from)
    const isResumed = missed?._tag === "Resumed"
    const greeting = textFrame(encodeMessage(welcomeFor(client, state.timeline, isResumed)))
    if (receiver === undefined || !isResumed || from === undefined) {
      if (missed?._tag === "NotResumed") count(Metric.withAttributes(resumes, { result: missed.why }))
      return sendConfig(client, socket, state, [greeting])
    }
    count(resumed)
    socket.write([greeting, ...missed.frames])
    const position = {
      timeline: state.timeline,
      revision: state.revision,
      told: missed.told,
      configBytes: leastConfigBytes(state, client.ref)
    }
    const following = begin(client, receiver, position)
    // To resume is to acknowledge: a client resumes from what is in force.
    deliveries.resumed(client, from.revision)
    return following
  }

  return { sendConfig, welcome }
})

const configs = Metric.counter("control_configs_total", {
  description: "Whole views sent to clients, the first of each connection included",
  incremental: true
})

const resumes = Metric.counter("control_resumes_total", {
  description: "Clients that asked to resume, by what came of it",
  incremental: true
})
const resumed = Metric.withAttributes(resumes, { result: "resumed" })
