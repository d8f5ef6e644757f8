/** Writes the beginning of a client's view: a snapshot, or a replay of missed changes. */
import type { Client } from "#clients/ClientRegistry.ts"
import { Deliveries } from "#clients/Deliveries.ts"
import { configFrame } from "#views/frames.ts"
import { encodeConfig, minConfigBytes } from "#views/encodeConfig.ts"
import { reasonToClose } from "#network/revocation.ts"
import type { NetworkState } from "#network/NetworkState.ts"
import { type Receiver, receiverIn } from "#views/deltaMessages.ts"
import type { Resume } from "#schema/messagesFromClients.ts"
import { Effect, Metric } from "effect"
import { makeAuthSuccess } from "./authSuccess.ts"
import { type Message, messageFrame } from "./messageFrame.ts"
import { replayFor } from "./replay.ts"
import type { Socket } from "./Socket.ts"
import { type ConnectionPosition, totalBytes } from "./updatePlan.ts"

/** A view that was written: the client's position, and the receiver for which the next deltas are rendered. */
export interface WrittenView {
  readonly position: ConnectionPosition
  readonly receiver: Receiver
}

export const makeSnapshots = Effect.gen(function*() {
  const deliveries = yield* Deliveries
  const authSuccess = yield* makeAuthSuccess
  const context = yield* Effect.context<never>()
  const count = (metric: Metric.Counter<number>) => metric.updateUnsafe(1, context)

  const startView = (client: Client, receiver: Receiver, position: ConnectionPosition): WrittenView => {
    deliveries.startView(client, position)
    return { position, receiver }
  }

  /**
   * Writes the greeting and a snapshot in one write. Closes the client and returns `closed` if the network does not have the
   * client any more.
   */
  const sendSnapshot = (
    client: Client,
    socket: Socket,
    state: NetworkState,
    greeting: ReadonlyArray<Message>
  ): WrittenView | "closed" => {
    const receiver = receiverIn(state, client.ref, client.level)
    const config = encodeConfig(state, client.ref, client.level)
    if (config === undefined || receiver === undefined) {
      socket.close(reasonToClose(state, client) ?? "defect")
      return "closed"
    }
    const frames = configFrame(config)
    socket.write([...greeting.map(messageFrame), ...frames])
    count(configs)
    const { revision, timeline } = state
    return startView(client, receiver, {
      timeline,
      revision,
      lastMessageRevision: revision,
      configBytes: totalBytes(frames)
    })
  }

  /** Writes `auth_success` and, in the same write, a replay from `from` or else a snapshot. Closes as `sendSnapshot` does. */
  const resumeView = (
    client: Client,
    socket: Socket,
    state: NetworkState,
    from: Resume | undefined
  ): WrittenView | "closed" => {
    const receiver = receiverIn(state, client.ref, client.level)
    const replay = receiver === undefined || from === undefined ? undefined : replayFor(state, receiver, from)
    const isResumed = replay?._tag === "Resumed"
    const greeting = authSuccess(client, state.timeline, isResumed)
    if (receiver === undefined || !isResumed || from === undefined) {
      if (replay?._tag === "NotResumed") count(Metric.withAttributes(resumes, { result: replay.reason }))
      return sendSnapshot(client, socket, state, [greeting])
    }
    count(resumed)
    socket.write([messageFrame(greeting), ...replay.frames])
    const view = startView(client, receiver, {
      timeline: state.timeline,
      revision: state.revision,
      lastMessageRevision: replay.lastMessageRevision,
      configBytes: minConfigBytes(state, client.ref)
    })
    // A client resumes from the revision that it has applied, so that resuming is an acknowledgement.
    deliveries.recordResume(client, from.revision)
    return view
  }

  return { sendSnapshot, resumeView }
})

const configs = Metric.counter("control_configs_total", {
  description: "Snapshots sent to clients, including the first one of each connection",
  incremental: true
})

const resumes = Metric.counter("control_resumes_total", {
  description: "Clients that asked to resume, by result",
  incremental: true
})
const resumed = Metric.withAttributes(resumes, { result: "resumed" })
