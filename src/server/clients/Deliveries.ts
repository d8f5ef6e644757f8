/** Writes the delivery state of each client, and waits until a change is delivered. */
import { Events } from "#events/Events.ts"
import { Signal } from "#events/Signal.ts"
import type { Position } from "#views/Batch.ts"
import { ChangeBus } from "#feed/ChangeBus.ts"
import { Network } from "#feed/Network.ts"
import * as History from "#network/History.ts"
import type { NetworkState } from "#network/NetworkState.ts"
import { mayAffect, topicOf } from "#network/scope.ts"
import type { Nack } from "#schema/messagesFromClients.ts"
import { type ClientRef, type Revision, type Timeline, TunnelId } from "#schema/ids.ts"
import type { StoreUnavailable } from "#store/sql.ts"
import { postgresText } from "#store/postgresText.ts"
import { Context, DateTime, Duration, Effect, Layer, Option } from "effect"
import { type Client, ClientRegistry } from "./ClientRegistry.ts"
import { type Delivery, type Goal, judge, offlineClients } from "./delivery.ts"
import type { DeliveryState } from "./DeliveryState.ts"
import { makeRemoteDelivery } from "./remoteDelivery.ts"
import { monotonicMillis } from "#time/monotonic.ts"
import { NodeLease } from "#cluster/NodeLease.ts"
import { clientData } from "#events/clientEvents.ts"

/** Progress of a connected client. */
export type Progress = Pick<DeliveryState, "sent" | "acknowledged" | "rejected">

/** `DeliveryState` as its only writer sees it. */
type Writable = { -readonly [Field in keyof DeliveryState]: DeliveryState[Field] }

export class Deliveries extends Context.Service<Deliveries, {
  /**
   * Records that a view of this timeline starts on the client's connection, with a snapshot or a replay whose last message is
   * at `at.lastMessageRevision`. An `ack` or `nack` of an earlier message has no effect from now on.
   */
  startView(client: Client, at: Position & { readonly timeline: Timeline }): void
  /** Records that the client had applied everything up to this revision when it connected. */
  recordResume(client: Client, revision: Revision): void
  /** Records that the client's socket was given everything up to `at.revision`, with the last message at `at.lastMessageRevision`. */
  recordSent(client: Client, at: Position): void
  /** Records an `ack`. Returns false, and records nothing, if no message of this revision or a later one was sent. */
  acknowledge(client: Client, revision: Revision): boolean
  /** Records a `nack`. Returns false, and records nothing, if its revision was not sent or was acknowledged. */
  reject(client: Client, nack: typeof Nack.Type["data"]): Effect.Effect<boolean>
  /** Wakes the waiting changes, because a client that disconnects is not waited for. */
  recordDisconnect(): void
  /** The progress of a client; none if it is not connected to this process. */
  progressOf(ref: ClientRef): Effect.Effect<Option.Option<Progress>>
  /** Returns when every connected client that this revision concerns was sent it, or has disconnected. */
  awaitSent(revision: Revision): Effect.Effect<void, StoreUnavailable>
  /** The delivery of a change once every client that it concerns has reached the goal or rejected it, or after `timeout`. */
  awaitDelivery(
    revision: Revision,
    goal: Goal,
    timeout: Duration.Duration
  ): Effect.Effect<Delivery, StoreUnavailable>
}>()("control/clients/Deliveries") {
  static readonly layer = Layer.effect(
    Deliveries,
    Effect.gen(function*() {
      const registry = yield* ClientRegistry
      const network = yield* Network
      const bus = yield* ChangeBus
      const events = yield* Events
      const { name: node } = yield* NodeLease
      const includeRemoteClients = yield* makeRemoteDelivery
      const progress = new Signal()
      /** Number of changes that wait. It is nearly always 0, and then recording progress wakes nothing. */
      let waiting = 0

      const wake = () => {
        if (waiting > 0) progress.wake()
      }

      const progressOf = (ref: ClientRef) =>
        Effect.map(registry.find(ref), Option.map(({ delivery }): Progress => delivery))

      const isSentIn = sentBy(bus)

      const deliveryOf = Effect.fnUntraced(function*(revision: Revision, goal: Goal) {
        const state = yield* network.state
        const touched = History.entryAt(state.history, revision)
        const clients = (yield* registry.newest).filter(({ ref }) =>
          touched === undefined || mayAffect(state, touched, ref)
        )
        return judge(revision, goal, clients, isSentIn(state))
      })

      const waitUntil = Effect.fnUntraced(
        function*(revision: Revision, isDone: Effect.Effect<boolean>) {
          yield* Effect.acquireRelease(Effect.sync(() => waiting += 1), () => Effect.sync(() => waiting -= 1))
          const woken = yield* progress.subscribe
          if ((yield* network.state).revision < revision) yield* network.catchUp
          while (!(yield* isDone)) yield* woken
        },
        Effect.scoped
      )

      const awaitSent = Effect.fn("Deliveries.awaitSent")((revision: Revision) =>
        waitUntil(
          revision,
          Effect.gen(function*() {
            const isSent = isSentIn(yield* network.state)
            return (yield* registry.newest).every((client) => isSent(client, revision))
          })
        )
      )

      const awaitDelivery = Effect.fn("Deliveries.awaitDelivery")(
        function*(revision: Revision, goal: Goal, timeout: Duration.Duration) {
          const isDone = Effect.map(deliveryOf(revision, goal), ({ waitedFor }) => waitedFor === 0)
          const deadline = (yield* monotonicMillis) + Duration.toMillis(timeout)
          yield* Effect.timeoutOption(waitUntil(revision, isDone), timeout)
          const { reached } = yield* deliveryOf(revision, goal)
          const offline = offlineClients(yield* network.state, yield* registry.newest, revision)
          return yield* includeRemoteClients({ ...reached, offline }, goal, deadline - (yield* monotonicMillis))
        }
      )

      return Deliveries.of({
        ...makeRecorder(events, node, wake),
        recordDisconnect: wake,
        progressOf,
        awaitSent,
        awaitDelivery
      })
    })
  )
}

/** Whether a client was sent everything up to `revision` that was published to its topic. */
const sentBy =
  (bus: ChangeBus["Service"]) => (state: NetworkState) => ({ delivery, ref }: Client, revision: Revision) => {
    const topic = topicOf(state, ref)
    // A gateway whose topic has no subscriber is moving to its own topic, where it gets a snapshot.
    const last = bus.lastRevisionOf(topic) ?? (ref.type === "gateway" ? revision : 0)
    return delivery.sent >= Math.min(revision, last)
  }

/** The writes of `DeliveryState`. Each one wakes the changes that wait. */
function makeRecorder(events: Events["Service"], node: string, wake: () => void) {
  const startView = (client: Client, at: Position & { readonly timeline: Timeline }) => {
    const state: Writable = client.delivery
    const { timeline } = at
    if (state.timeline !== timeline) {
      state.previousTimelineRevision = state.timeline === undefined ? undefined : state.lastMessageRevision
      state.acknowledged = undefined
      state.rejected = undefined
    }
    state.timeline = timeline
    state.viewStart = at.lastMessageRevision
    recordSent(client, at)
  }

  const recordResume = (client: Client, revision: Revision) => {
    const state: Writable = client.delivery
    state.acknowledged = revision
    changed(state)
  }

  const recordSent = (client: Client, at: Position) => {
    const state: Writable = client.delivery
    state.sent = at.revision
    state.lastMessageRevision = at.lastMessageRevision
    changed(state)
  }

  const acknowledge = (client: Client, revision: Revision) => {
    const state: Writable = client.delivery
    if (revision > state.lastMessageRevision) return isOfPreviousTimeline(state, revision)
    // Replayed rows are not ordered by revision, so that only an `ack` of the last replayed message means anything.
    if (revision < state.viewStart) return true
    state.previousTimelineRevision = undefined
    if (state.acknowledged !== undefined && revision <= state.acknowledged) return true
    state.acknowledged = revision
    if (state.rejected !== undefined && state.rejected.revision <= revision) state.rejected = undefined
    events.broadcast({ event: "ack", data: { ...clientData(client.ref, node), revision } })
    changed(state)
    return true
  }

  const reject = Effect.fnUntraced(function*(client: Client, nack: typeof Nack.Type["data"]) {
    const state: Writable = client.delivery
    if (isOfPreviousTimeline(state, nack.revision)) return true
    if (nack.revision > state.lastMessageRevision || nack.revision <= (state.acknowledged ?? -1)) return false
    state.rejected = { ...nack, ...storableNack(nack), at: DateTime.formatIso(yield* DateTime.now) }
    events.broadcast({ event: "nack", data: { ...clientData(client.ref, node), ...nack } })
    changed(state)
    return true
  })

  const changed = (state: Writable) => {
    state.version += 1
    wake()
  }

  return { startView, recordResume, recordSent, acknowledge, reject }
}

/** Whether an `ack` or `nack` refers to a message of the previous timeline, because it was on its way when that ended. */
function isOfPreviousTimeline({ lastMessageRevision, previousTimelineRevision }: DeliveryState, revision: Revision) {
  return previousTimelineRevision !== undefined && revision > lastMessageRevision &&
    revision <= previousTimelineRevision
}

/** The nack with text that PostgreSQL can store. */
function storableNack({ code, message, tunnelId }: typeof Nack.Type["data"]) {
  const id = tunnelId === undefined ? {} : { tunnelId: TunnelId.make(postgresText(tunnelId) || "?") }
  return { code: postgresText(code), message: postgresText(message), ...id }
}
