/** Every open conversation: each a supervised fiber, given a limited time to authenticate, and ended together on the way out. */
import { ClientRegistry } from "#clients/ClientRegistry.ts"
import { loopTurn } from "#time/eventLoop.ts"
import { forgivenFor } from "#clients/Heartbeat.ts"
import { monotonicMillis, monotonicMillisUnsafe } from "#time/monotonic.ts"
import { NodeLease } from "#cluster/NodeLease.ts"
import { textFrame } from "#views/frames.ts"
import { encodeMessage } from "#schema/protocol.ts"
import { levels } from "#session/replies.ts"
import { Settings } from "#server/Settings.ts"
import { Cause, Clock, Context, Duration, Effect, FiberSet, Layer, Metric, Random, Schedule } from "effect"
import { makeServe } from "./Connection.ts"
import { spread, windowMillis } from "./reconnectSchedule.ts"
import type { Socket, TooSlow } from "./Socket.ts"
import { PendingConnections, type PendingSlot, type Upgrade } from "./upgrade.ts"

/** What the upgrade of a socket told. */
type Request = Pick<Upgrade, "type" | "level" | "address">

/** How often it is looked for sockets whose time to authenticate is over. */
const lookEvery = Duration.millis(500)

export class Connections extends Context.Service<Connections, {
  /** A place for a socket that is about to come from this address; none when too many are there, or wait to authenticate. */
  reserve(address: string): PendingSlot<Socket> | undefined
  /** Begins the conversation with one client; it ends when its socket does. */
  serve(socket: Socket, place: PendingSlot<Socket>, request: Request): void
}>()("control/connection/Connections") {
  /** When the scope ends every socket is closed (1012), and the last one is waited for. */
  static readonly layer = Layer.effect(
    Connections,
    Effect.gen(function*() {
      const settings = yield* Settings
      const registry = yield* ClientRegistry
      const nodes = yield* NodeLease
      const clock = yield* Clock.Clock
      const converse = yield* makeServe
      const room = new PendingConnections<Socket>(settings.maxUnauthenticated, settings.maxUnauthenticatedPerIp)
      const open = new Set<Socket>()
      const fibers = yield* FiberSet.make<void, never>()
      const run = yield* FiberSet.runtime(fibers)<never>()

      yield* Effect.addFinalizer(() =>
        Effect.gen(function*() {
          yield* Effect.logInfo(`shutting down: ${open.size} connections are closed`)
          yield* nodes.handOver(Duration.millis(windowMillis(open.size)))
          yield* sayGoodbye(registry, open)
          for (const socket of open) socket.close("restarting")
          yield* FiberSet.awaitEmpty(fibers)
        })
      )

      yield* Effect.forkScoped(closeOverdue(room, Duration.toMillis(settings.authTimeout)))

      const reserve = (address: string) =>
        open.size < settings.maxConnections ? room.enter(address, monotonicMillisUnsafe(clock)) : undefined

      const serve = (socket: Socket, place: PendingSlot<Socket>, request: Request) => {
        open.add(socket)
        place.seat(socket)
        const upgrade: Upgrade = { ...request, heard: () => place.stopClock(), admitted: () => place.leave() }
        run(
          supervised(converse(socket, upgrade), socket, request.address).pipe(
            Effect.andThen(socket.ended),
            Effect.ensuring(Effect.sync(() => open.delete(socket)))
          )
        )
      }

      return Connections.of({ reserve, serve })
    })
  )
}

/** After a stall, the `auth` that waits in a socket is read before its client is judged: see `Heartbeat`. */
const closeOverdue = Effect.fnUntraced(function*(room: PendingConnections<Socket>, authTimeoutMillis: number) {
  let due = (yield* monotonicMillis) + Duration.toMillis(lookEvery)
  const look = Effect.gen(function*() {
    const late = (yield* monotonicMillis) - due
    due += late + Duration.toMillis(lookEvery)
    yield* loopTurn
    yield* loopTurn
    const oldest = (yield* monotonicMillis) - authTimeoutMillis - forgivenFor(late)
    for (const socket of room.overdue(oldest)) socket.close("silent")
  })
  yield* Effect.repeat(look, Schedule.spaced(lookEvery))
})

/** Tells each client whose level knows it when to come back, so that they do not all come at once. */
const sayGoodbye = Effect.fnUntraced(function*(registry: ClientRegistry["Service"], open: ReadonlySet<Socket>) {
  const clients = new Map((yield* registry.all).map((client) => [client.peer, client]))
  const members = [...open].flatMap((socket) => {
    const client = clients.get(socket)
    // Who has not been welcomed yet would take it for the answer to its `auth`.
    return client?.timeline === undefined ? [] : [{ socket, type: client.ref.type, level: client.level }]
  })
  for (const [{ level, socket }, delayMillis] of spread(members, yield* Random.next)) {
    const goodbye = levels[level].leaving(delayMillis)
    if (goodbye !== undefined) socket.write([textFrame(encodeMessage(goodbye))])
  }
})

/** A connection that fails inside is closed (1011) and counted; no other notices. */
function supervised(conversation: Effect.Effect<void, TooSlow>, socket: Socket, address: string): Effect.Effect<void> {
  return conversation.pipe(
    Effect.catchCause((cause) => {
      if (Cause.hasInterruptsOnly(cause)) return Effect.void
      if (cause.reasons.some((reason) => Cause.isFailReason(reason))) return Effect.sync(() => socket.close("tooSlow"))
      return Effect.gen(function*() {
        yield* Effect.logError(`a session with ${address} failed inside`, cause)
        yield* Metric.update(defects, 1)
        socket.close("defect")
      })
    }),
    Effect.ensuring(Effect.sync(() => socket.close("normal")))
  )
}

const defects = Metric.counter("control_session_defects_total", {
  description: "Sessions that ended by a fault of the server",
  incremental: true
})
