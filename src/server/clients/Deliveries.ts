/** How far each client has come: what was handed to its socket, what it says is in force, what it refused; and waiting for that. */
import { Events } from "#events/Events.ts"
import { Signal } from "#events/Signal.ts"
import type { Position } from "#views/Batch.ts"
import { ChangeBus } from "#feed/ChangeBus.ts"
import { Network } from "#feed/Network.ts"
import * as History from "#network/History.ts"
import type { NetworkState } from "#network/NetworkState.ts"
import { concerns, topicOf } from "#network/scope.ts"
import type { Nack, NotedNack } from "#schema/clientMessages.ts"
import { type ClientRef, type Revision, type Timeline, TunnelId } from "#schema/ids.ts"
import type { StoreUnavailable } from "#store/sql.ts"
import { postgresText } from "#store/postgresText.ts"
import { PresenceStore } from "#store/PresenceStore.ts"
import { Context, DateTime, Duration, Effect, Layer, Option } from "effect"
import { type Client, ClientRegistry } from "./ClientRegistry.ts"
import { absent, type Delivery, type Goal, judge } from "./delivery.ts"
import { withOthers } from "./remoteDelivery.ts"
import { monotonicMillis } from "#time/monotonic.ts"
import { NodeLease } from "#cluster/NodeLease.ts"
import { clientOf } from "#events/clientEvents.ts"

export interface Progress {
  readonly sent: Revision
  readonly applied: Revision | undefined
  readonly nack: NotedNack | undefined
}

export class Deliveries extends Context.Service<Deliveries, {
  /**
   * Notes that this client's view begins anew on its connection, in this history: with a config or with what it has missed,
   * the last message of which is `told`. What it says of anything before that counts no more.
   */
  begin(client: Client, at: Position & { readonly timeline: Timeline }): void
  /** Everything up to this revision was in force when the client came. */
  resumed(client: Client, revision: Revision): void
  /** Notes that this client's socket was given everything up to `revision`, and that the last message of it was `told`. */
  note(client: Client, at: Position): void
  /** Everything up to this revision is in force at the client; false, and nothing is noted, if it was not told so much. */
  acknowledge(client: Client, revision: Revision): boolean
  /** The client cannot apply this revision; false, and nothing is noted, if it was not told it or has acknowledged it. */
  refuse(client: Client, nack: typeof Nack.Type["data"]): Effect.Effect<boolean>
  /** Wakes who waits: a client has left. */
  noteLeft(): void
  /** How far a connected client has come; none for one that is not connected to this process. */
  progressOf(ref: ClientRef): Effect.Effect<Option.Option<Progress>>
  /** Returns when every connected client that this revision concerns was sent it; a client that leaves is not waited for. */
  awaitSent(revision: Revision): Effect.Effect<void, StoreUnavailable>
  /** What has become of the change when all whom it concerns have reached the goal, or refused, or the time is over. */
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
      const nodes = yield* NodeLease
      const presence = yield* PresenceStore
      const progress = new Signal()
      /** Nobody is told of progress as long as nobody waits: that is nearly always. */
      let waiting = 0

      const noteLeft = () => {
        if (waiting > 0) progress.wake()
      }

      const progressOf = (ref: ClientRef) =>
        Effect.map(registry.find(ref), Option.map(({ applied, nack, sent }) => ({ applied, nack, sent })))

      const isSentIn = sentBy(bus)

      const deliveryOf = Effect.fnUntraced(function*(revision: Revision, goal: Goal) {
        const state = yield* network.state
        const touch = History.at(state.history, revision)
        const clients = (yield* registry.newest).filter(({ ref }) => touch === undefined || concerns(state, touch, ref))
        return judge(revision, goal, clients, isSentIn(state))
      })

      const offlineOf = Effect.fnUntraced(function*(revision: Revision) {
        return absent(yield* network.state, yield* registry.newest, revision)
      })

      const until = Effect.fnUntraced(
        function*(revision: Revision, isOver: Effect.Effect<boolean>) {
          yield* Effect.acquireRelease(Effect.sync(() => waiting += 1), () => Effect.sync(() => waiting -= 1))
          const woken = yield* progress.subscribe
          if ((yield* network.state).revision < revision) yield* network.catchUp
          while (!(yield* isOver)) yield* woken
        },
        Effect.scoped
      )

      const awaitSent = Effect.fn("Deliveries.awaitSent")((revision: Revision) =>
        until(
          revision,
          Effect.gen(function*() {
            const isSent = isSentIn(yield* network.state)
            return (yield* registry.newest).every((client) => isSent(client, revision))
          })
        )
      )

      const awaitDelivery = Effect.fn("Deliveries.awaitDelivery")(
        function*(revision: Revision, goal: Goal, timeout: Duration.Duration) {
          const isOver = Effect.map(deliveryOf(revision, goal), ({ hopeful }) => hopeful === 0)
          const deadline = (yield* monotonicMillis) + Duration.toMillis(timeout)
          yield* Effect.timeoutOption(until(revision, isOver), timeout)
          const { reached } = yield* deliveryOf(revision, goal)
          const here = { ...reached, offline: yield* offlineOf(revision) }
          return yield* withOthers(presence, here, goal, deadline - (yield* monotonicMillis))
        }
      )

      return Deliveries.of({
        ...makeNotes(events, nodes.name, noteLeft),
        noteLeft,
        progressOf,
        awaitSent,
        awaitDelivery
      })
    })
  )
}

/** What is published to a client's audience up to this revision, and not sent to it yet, is what is waited for. */
const sentBy = (bus: ChangeBus["Service"]) => (state: NetworkState) => (client: Client, revision: Revision) => {
  const topic = topicOf(state, client.ref)
  // A gateway that nobody follows for is going over to a topic of its own, and is sent a config there.
  const last = bus.lastOf(topic) ?? (client.ref.type === "gateway" ? revision : 0)
  return client.sent >= Math.min(revision, last)
}

/** What a client has been sent, and what it says of that; whoever waits for it is woken. */
function makeNotes(events: Events["Service"], node: string, wake: () => void) {
  const begin = (client: Client, at: Position & { readonly timeline: Timeline }) => {
    const { timeline } = at
    if (client.timeline !== timeline) {
      client.toldBefore = client.timeline === undefined ? undefined : client.told
      client.applied = undefined
      client.nack = undefined
    }
    client.timeline = timeline
    client.begun = at.told
    note(client, at)
  }

  const resumed = (client: Client, revision: Revision) => {
    client.applied = revision
    wake()
  }

  const note = (client: Client, at: Position) => {
    client.sent = at.revision
    client.told = at.told
    client.isWritten = false
    wake()
  }

  /** What was under way when the history changed speaks of one that does not count any more. */
  const isLate = ({ told, toldBefore }: Client, revision: Revision) =>
    toldBefore !== undefined && revision > told && revision <= toldBefore

  const acknowledge = (client: Client, revision: Revision) => {
    if (revision > client.told) return isLate(client, revision)
    client.toldBefore = revision < client.begun ? client.toldBefore : undefined
    // Within what it began with the rows stand in another order than their changes: only the end of it says something.
    if (revision < client.begun) return true
    if (client.applied !== undefined && revision <= client.applied) return true
    client.applied = revision
    client.isWritten = false
    if (client.nack !== undefined && client.nack.revision <= revision) client.nack = undefined
    events.tell({ event: "ack", data: { ...clientOf(client.ref, node), revision } })
    wake()
    return true
  }

  const refuse = Effect.fnUntraced(function*(client: Client, nack: typeof Nack.Type["data"]) {
    if (isLate(client, nack.revision)) return true
    if (nack.revision > client.told || nack.revision <= (client.applied ?? -1)) return false
    client.nack = { ...nack, ...storableNack(nack), at: DateTime.formatIso(yield* DateTime.now) }
    client.isWritten = false
    events.tell({ event: "nack", data: { ...clientOf(client.ref, node), ...nack } })
    wake()
    return true
  })

  return { begin, resumed, note, acknowledge, refuse }
}

function storableNack({ code, message, tunnelId }: typeof Nack.Type["data"]) {
  const id = tunnelId === undefined ? {} : { tunnelId: TunnelId.make(postgresText(tunnelId) || "?") }
  return { code: postgresText(code), message: postgresText(message), ...id }
}
