/** Supervises all connections: authentication timeout, defects, and the drain at shutdown. */
import { ClientRegistry } from "#clients/ClientRegistry.ts"
import { eventLoopTurn } from "#time/eventLoop.ts"
import { stallAllowanceMillis } from "#clients/Heartbeat.ts"
import { monotonicMillis, monotonicMillisUnsafe } from "#time/monotonic.ts"
import { NodeLease } from "#cluster/NodeLease.ts"
import { Network } from "#feed/Network.ts"
import { currentLimits } from "#ingress/connectionLimits.ts"
import { replies } from "#session/replies.ts"
import { Settings } from "#server/Settings.ts"
import { Cause, Clock, Context, Duration, Effect, FiberSet, Layer, Metric, Random, Schedule } from "effect"
import { makeServe } from "./Connection.ts"
import { messageFrame } from "./messageFrame.ts"
import { reconnectWindowMillis, scheduleReconnects } from "./reconnectSchedule.ts"
import type { Socket, TooSlow } from "./Socket.ts"
import { PendingConnections, type PendingSlot, type Upgrade } from "./upgrade.ts"

/** Facts of an accepted upgrade request. */
type UpgradeFacts = Pick<Upgrade, "type" | "level" | "address">

const authTimeoutPollInterval = Duration.millis(500)

export class Connections extends Context.Service<Connections, {
  /** Reserves a slot for a socket from this address; undefined if there are too many connections, or too many unauthenticated. */
  reserve(address: string): PendingSlot<Socket> | undefined
  /** Starts to serve one client, until its socket closes. */
  serve(socket: Socket, slot: PendingSlot<Socket>, request: UpgradeFacts): void
}>()("control/connection/Connections") {
  /** When the scope ends, every socket is closed with 1012, and the finalizer waits for the last one. */
  static readonly layer = Layer.effect(
    Connections,
    Effect.gen(function*() {
      // No client may find an empty network, so that its views would be empty.
      yield* (yield* Network).loaded
      const settings = yield* Settings
      const registry = yield* ClientRegistry
      const lease = yield* NodeLease
      const clock = yield* Clock.Clock
      const serveSocket = yield* makeServe
      const { ws: limits } = yield* currentLimits
      const pending = new PendingConnections<Socket>(limits.unauthenticated)
      const open = new Set<Socket>()
      const fibers = yield* FiberSet.make<void, never>()
      const run = yield* FiberSet.runtime(fibers)<never>()

      yield* Effect.addFinalizer(() =>
        Effect.gen(function*() {
          yield* Effect.logInfo(`shutting down: closing ${open.size} connections`)
          yield* lease.drain(Duration.millis(reconnectWindowMillis(open.size)))
          yield* sendDrain(registry, open)
          yield* Effect.logDebug("shutdown: clients of control.v1 have a time to reconnect")
          for (const socket of open) socket.close("restarting")
          yield* FiberSet.awaitEmpty(fibers)
          yield* Effect.logDebug("shutdown: every WebSocket is closed")
        })
      )

      yield* Effect.forkScoped(closeOverdue(pending, Duration.toMillis(settings.authTimeout)))

      const reserve = (address: string) =>
        open.size < limits.open ? pending.reserve(address, monotonicMillisUnsafe(clock)) : undefined

      const serve = (socket: Socket, slot: PendingSlot<Socket>, request: UpgradeFacts) => {
        open.add(socket)
        slot.attach(socket)
        const upgrade: Upgrade = {
          ...request,
          authReceived: () => slot.stopTimeout(),
          authenticated: () => slot.release()
        }
        run(
          supervised(serveSocket(socket, upgrade), socket, request.address).pipe(
            Effect.andThen(socket.ended),
            Effect.ensuring(Effect.sync(() => open.delete(socket)))
          )
        )
      }

      return Connections.of({ reserve, serve })
    })
  )
}

/** Closes sockets that have not sent `auth` in time. After a stall, waiting messages are read first, as in `Heartbeat`. */
const closeOverdue = Effect.fnUntraced(function*(pending: PendingConnections<Socket>, authTimeoutMillis: number) {
  const interval = Duration.toMillis(authTimeoutPollInterval)
  let due = (yield* monotonicMillis) + interval
  const closeLate = Effect.gen(function*() {
    const lateMillis = (yield* monotonicMillis) - due
    due += lateMillis + interval
    yield* eventLoopTurn
    yield* eventLoopTurn
    const oldest = (yield* monotonicMillis) - authTimeoutMillis - stallAllowanceMillis(lateMillis)
    for (const socket of pending.overdue(oldest)) socket.close("silent")
  })
  yield* Effect.repeat(closeLate, Schedule.spaced(authTimeoutPollInterval))
})

/** Sends each `control.v1` client its own delay for reconnecting, so that not all clients reconnect at once. */
const sendDrain = Effect.fnUntraced(function*(registry: ClientRegistry["Service"], open: ReadonlySet<Socket>) {
  const clients = new Map((yield* registry.all).map((client) => [client.peer, client]))
  const members = [...open].flatMap((socket) => {
    const client = clients.get(socket)
    // A client without `auth_success` would take the message for the answer to its `auth`.
    return client?.delivery.timeline === undefined ? [] : [{ socket, type: client.ref.type, level: client.level }]
  })
  for (const [{ level, socket }, delayMillis] of scheduleReconnects(members, yield* Random.next)) {
    const drain = replies[level].draining(delayMillis)
    if (drain !== undefined) socket.write([messageFrame(drain)])
  }
})

/** A connection that fails with a defect is closed with 1011 and counted. Other connections are not affected. */
function supervised(serving: Effect.Effect<void, TooSlow>, socket: Socket, address: string): Effect.Effect<void> {
  return serving.pipe(
    Effect.catchCause((cause) => {
      if (Cause.hasInterruptsOnly(cause)) return Effect.void
      if (cause.reasons.some((reason) => Cause.isFailReason(reason))) return Effect.sync(() => socket.close("tooSlow"))
      return Effect.gen(function*() {
        yield* Effect.logError(`the connection from ${address} failed with a defect and is closed with 1011`, cause)
        yield* Metric.update(defects, 1)
        socket.close("defect")
      })
    }),
    Effect.ensuring(Effect.sync(() => socket.close("normal")))
  )
}

const defects = Metric.counter("control_session_defects_total", {
  description: "Sessions closed because of a defect of the server",
  incremental: true
})
