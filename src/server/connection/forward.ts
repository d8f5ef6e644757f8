/** Keeps a client's view up to date: a snapshot or replay first, then every delta. */
import type { Client } from "#clients/ClientRegistry.ts"
import { Deliveries } from "#clients/Deliveries.ts"
import { ChangeBus, type Subscription } from "#feed/ChangeBus.ts"
import { Network } from "#feed/Network.ts"
import { reasonToClose } from "#network/revocation.ts"
import type { NetworkState } from "#network/NetworkState.ts"
import { type Topic, topicOf } from "#network/scope.ts"
import type { Resume } from "#schema/messagesFromClients.ts"
import type { CloseReason } from "#schema/codes.ts"
import { Cause, Effect, Fiber, Metric } from "effect"
import type { Member } from "./ConnectionState.ts"
import type { Message } from "./messageFrame.ts"
import { makeSnapshots, type WrittenView } from "./snapshot.ts"
import { makeSnapshotTurns, type SnapshotTurns } from "./snapshotTurns.ts"
import type { Socket, SocketClosed, TooSlow } from "./Socket.ts"
import { planUpdate } from "./updatePlan.ts"

/** `greeting`: messages that go out with the snapshot in one write. `resume`: position from which the client wants to resume. */
export type ViewStart =
  | { readonly _tag: "Snapshot"; readonly greeting: ReadonlyArray<Message> }
  | { readonly _tag: "Resume"; readonly resume: Resume | undefined }

const snapshotOnly: ViewStart = { _tag: "Snapshot", greeting: [] }

export const makeForwarding = Effect.gen(function*() {
  const network = yield* Network
  const bus = yield* ChangeBus
  const inTurn = yield* makeSnapshotTurns
  const { resumeView, sendSnapshot } = yield* makeSnapshots
  const forwardDeltas = yield* makeForwardDeltas(inTurn)

  /** Subscribes before the snapshot, so that no later change is missed. Deltas that the snapshot contains are skipped. */
  const openView = Effect.fnUntraced(function*(client: Client, socket: Socket, start: ViewStart) {
    // A client that asks for a snapshot first has to read what it was sent before.
    if (socket.hasBacklog()) yield* socket.drained
    const topic = topicOf(yield* network.state, client.ref)
    const subscription = yield* bus.subscribe(topic)
    const view = yield* inTurn(
      client,
      socket,
      Effect.map(network.state, (state) => {
        // From this state on, every change that moves the client to another topic arrives by the subscription.
        if (topicOf(state, client.ref) !== topic) return "topicChanged" as const
        // The session is registered by now, so `Revocations` closes it after a later revocation. This detects an earlier one.
        const reason = reasonToClose(state, client)
        if (reason !== undefined) return close(socket, reason)
        return start._tag === "Resume"
          ? resumeView(client, socket, state, start.resume)
          : sendSnapshot(client, socket, state, start.greeting)
      })
    )
    return typeof view === "string" ? view : yield* forwardDeltas(client, socket, { subscription, topic }, view)
  }, Effect.scoped)

  /** After a change of topic a snapshot follows. The greeting is repeated only if it was not sent yet. */
  const keepUpToDate = Effect.fnUntraced(function*(client: Client, socket: Socket, start: ViewStart) {
    let next = start
    while ((yield* openView(client, socket, next)) === "topicChanged") {
      if (client.delivery.timeline !== undefined) next = snapshotOnly
    }
  })

  /** Starts the member's forwarding fiber, after it has stopped the one that is running. */
  return (member: Member, socket: Socket, start: ViewStart): Effect.Effect<void> =>
    Effect.andThen(
      member.forwarding === undefined ? Effect.void : Fiber.interrupt(member.forwarding),
      supervised(keepUpToDate(member.client, socket, start), socket).pipe(
        Effect.forkChild({ startImmediately: true }),
        Effect.map((fiber) => {
          member.forwarding = fiber
        })
      )
    )
})

interface TopicSubscription {
  readonly topic: Topic
  readonly subscription: Subscription
}

const makeForwardDeltas = Effect.fnUntraced(function*(inTurn: SnapshotTurns) {
  const network = yield* Network
  const deliveries = yield* Deliveries
  const { sendSnapshot } = yield* makeSnapshots
  const context = yield* Effect.context<never>()
  const count = (metric: Metric.Counter<number>) => metric.updateUnsafe(1, context)

  /**
   * Forwards every delta after `view`. Fails when the socket closes or the client is too slow. Returns `topicChanged` when the
   * client belongs to another topic, which then starts with a snapshot.
   */
  return Effect.fnUntraced(
    function*(client: Client, socket: Socket, { subscription, topic }: TopicSubscription, view: WrittenView) {
      let { position, receiver } = view
      let keys: NetworkState["keys"] | undefined
      while (true) {
        const updates = yield* subscription.takeAll
        // A client whose key is revoked gets no change after the revocation, however late its connection closes.
        const state = yield* network.state
        if (state.keys !== keys) {
          const reason = reasonToClose(state, client)
          if (reason !== undefined) return close(socket, reason)
          keys = state.keys
        }
        const plan = planUpdate(updates, position, receiver)
        if (plan._tag === "Snapshot") {
          const written = yield* inTurn(
            client,
            socket,
            Effect.map(network.state, (latest) => {
              if (topicOf(latest, client.ref) !== topic) return "topicChanged" as const
              const reason = reasonToClose(latest, client)
              return reason === undefined ? sendSnapshot(client, socket, latest, []) : close(socket, reason)
            })
          )
          if (typeof written === "string") return written
          ;({ position, receiver } = written)
          if (plan.missed) count(resyncs)
        } else {
          socket.write(plan.frames)
          position = plan.position
          deliveries.recordSent(client, position)
        }
        if (socket.hasBacklog()) yield* socket.drained
      }
    }
  )
})

function close(socket: Socket, reason: CloseReason) {
  socket.close(reason)
  return "closed" as const
}

/** A failure of forwarding ends its own connection only. */
function supervised(forwarding: Effect.Effect<void, TooSlow | SocketClosed>, socket: Socket): Effect.Effect<void> {
  return forwarding.pipe(
    Effect.catchTags({
      TooSlow: () => Effect.sync(() => socket.close("tooSlow")),
      SocketClosed: () => Effect.void
    }),
    Effect.catchCause((cause) =>
      Cause.hasInterruptsOnly(cause) ? Effect.void : Effect.andThen(
        Effect.logError("forwarding changes to a client failed; its connection is closed", cause),
        Effect.sync(() => socket.close("defect"))
      )
    )
  )
}

const resyncs = Metric.counter("control_resyncs_total", {
  description: "Snapshots sent in place of deltas, because the client was too slow or the change log had a gap",
  incremental: true
})
