/** Closes clients that have been silent past the heartbeat timeout, and pings the others. */
import { Settings } from "#server/Settings.ts"
import { eventLoopTurn } from "#time/eventLoop.ts"
import { monotonicMillis } from "#time/monotonic.ts"
import { Duration, Effect, Layer, Metric, Schedule } from "effect"
import { ClientRegistry } from "./ClientRegistry.ts"

/**
 * After a stall (a paused machine, a blocked event loop) timers fire before the heartbeats that wait in the sockets are read.
 * Every sweep therefore reads waiting messages first, and a late sweep extends the timeout by its delay.
 */
export const layer = Layer.effectDiscard(Effect.gen(function*() {
  const registry = yield* ClientRegistry
  const settings = yield* Settings
  const interval = Duration.toMillis(settings.heartbeatInterval)
  const timeout = Duration.toMillis(settings.heartbeatTimeout)
  let due = (yield* monotonicMillis) + interval

  const sweep = Effect.gen(function*() {
    const lateMillis = (yield* monotonicMillis) - due
    due += lateMillis + interval
    const allowance = stallAllowanceMillis(lateMillis)
    if (allowance > 0) {
      yield* Effect.logWarning(`this process was stalled for ${lateMillis} ms; the heartbeat timeout is extended once`)
    }
    // Twice, because the first turn may end within the turn that has already read.
    yield* eventLoopTurn
    yield* eventLoopTurn
    const oldest = (yield* monotonicMillis) - timeout - allowance
    const clients = yield* registry.all
    // A client with a backlog is not read from, and has a deadline for reading instead.
    const silent = clients.filter(({ lastSeen, peer }) => lastSeen.millis < oldest && !peer.hasBacklog())
    for (const { peer } of silent) peer.close("silent")
    yield* Metric.update(evictions, silent.length)
    if (silent.length > 0) yield* Effect.logDebug(`closed ${silent.length} silent clients`)
    for (const { peer } of clients) peer.ping()
  })

  yield* sweep.pipe(
    Effect.catchCause((cause) =>
      Effect.logError("cannot check for silent clients; retrying at the next interval", cause)
    ),
    Effect.schedule(Schedule.spaced(settings.heartbeatInterval)),
    Effect.forkScoped
  )
}))

/**
 * Milliseconds by which a late sweep extends the heartbeat timeout. A delay up to 1 s is no stall. After a stall the allowance
 * is the delay and 5 s, because the packets that clients lost during the stall are retransmitted only after some seconds.
 */
export const stallAllowanceMillis = (lateMillis: number): number => lateMillis > 1_000 ? lateMillis + 5_000 : 0

const evictions = Metric.counter("control_evictions_total", {
  description: "Clients closed for being silent too long",
  incremental: true
})
