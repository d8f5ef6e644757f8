/** The scheduled fiber that looks for silent clients: evicts those past their limit, pings the others. */
import { Settings } from "#server/Settings.ts"
import { Duration, Effect, Layer, Metric, Schedule } from "effect"
import { ClientRegistry } from "./ClientRegistry.ts"
import { loopTurn } from "#time/eventLoop.ts"
import { monotonicMillis } from "#time/monotonic.ts"

/**
 * After a stall (a paused machine, a blocked event loop) timers fire before the heartbeats that wait in the sockets are
 * read: a sweep that comes late forgives by how late it is, and every sweep lets the waiting messages in first.
 */
export const layer = Layer.effectDiscard(Effect.gen(function*() {
  const registry = yield* ClientRegistry
  const settings = yield* Settings
  const interval = Duration.toMillis(settings.heartbeatInterval)
  const limit = Duration.toMillis(settings.heartbeatTimeout)
  let due = (yield* monotonicMillis) + interval

  const sweep = Effect.gen(function*() {
    const late = (yield* monotonicMillis) - due
    due += late + interval
    const forgiven = forgivenFor(late)
    if (forgiven > 0) yield* Effect.logWarning(`this process stood still for ${late} ms; nobody is evicted for that`)
    // Twice, since the first may end within the turn that has already read.
    yield* loopTurn
    yield* loopTurn
    const oldest = (yield* monotonicMillis) - limit - forgiven
    const clients = yield* registry.all
    // Nothing is read from a client that is backed up: being too slow has a deadline of its own.
    const silent = clients.filter(({ lastSeen, peer }) => lastSeen < oldest && !peer.isBackedUp())
    for (const { peer } of silent) peer.close("silent")
    yield* Metric.update(evictions, silent.length)
    if (silent.length > 0) yield* Effect.logInfo(`evicted ${silent.length} silent clients`)
    for (const { peer } of clients) peer.ping()
  })

  yield* sweep.pipe(
    Effect.catchCause((cause) => Effect.logError("the heartbeat sweep failed", cause)),
    Effect.schedule(Schedule.spaced(settings.heartbeatInterval)),
    Effect.forkScoped
  )
}))

/**
 * How much longer than the limit a client may have been silent when a sweep comes this many milliseconds too late. A second
 * is no stall; after a real one, five seconds more than it lasted: what was sent meanwhile may still be on its way, since a
 * sender whose packets were lost tries again only after a while.
 */
export const forgivenFor = (lateMillis: number): number => lateMillis > 1_000 ? lateMillis + 5_000 : 0

const evictions = Metric.counter("control_evictions_total", {
  description: "Clients closed for being silent too long",
  incremental: true
})
