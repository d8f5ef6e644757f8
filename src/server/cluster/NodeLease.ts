/** Holds this node's lease on its sessions, and fences its writes when the lease lapses. */
import { newId } from "#crypto/identifiers.ts"
import { Network } from "#feed/Network.ts"
import packageJson from "#package.json" with { type: "json" }
import { Settings } from "#server/Settings.ts"
import { type LeaseRenewal, NodeStore } from "#store/NodeStore.ts"
import type { LeaseLapsed } from "#store/presenceTypes.ts"
import { StoreUnavailable } from "#store/sql.ts"
import { Intervals } from "#time/Intervals.ts"
import { monotonicMillis } from "#time/monotonic.ts"
import { Context, Duration, Effect, Layer, Option, Schedule } from "effect"

export class NodeLease extends Context.Service<NodeLease, {
  /** Unique among all nodes of one database. */
  readonly id: string
  /** Display name; several nodes may have the same. */
  readonly name: string
  /** Whether another node was live at the last renewal. */
  readonly hasOtherNodes: Effect.Effect<boolean>
  /** Generation of the lease. It changes after other nodes have shown this node's clients offline. */
  readonly epoch: Effect.Effect<string | undefined>
  /** Runs a write that requires the lease. If the lease has lapsed, renews it and runs the write again. */
  runFenced<A>(write: Effect.Effect<A, LeaseLapsed | StoreUnavailable>): Effect.Effect<A, StoreUnavailable>
  /**
   * Whether this node has held its lease for a full period. Before that, other nodes may have lost their leases for the same
   * reason, a database outage, and are about to renew them. The embedded database has no other node to wait for.
   */
  readonly mayExpireOthers: Effect.Effect<boolean>
  /**
   * Marks this node as draining: its clients reconnect within `window`, and stay online until then. Returns
   * whether another node is there to take them.
   */
  drain(window: Duration.Duration): Effect.Effect<boolean>
  /** Whether `drain` has found another node. */
  readonly isDraining: Effect.Effect<boolean>
}>()("control/cluster/NodeLease") {
  /** `connected` counts the clients of this node; each renewal publishes the number. */
  static readonly layer = <R>(connected: Effect.Effect<number, never, R>) =>
    Layer.effect(NodeLease, makeNodeLease(connected))
}

const makeNodeLease = Effect.fnUntraced(function*<R>(connected: Effect.Effect<number, never, R>) {
  const services = yield* Effect.context<R>()
  const store = yield* NodeStore
  const { databaseUrl, nodeName } = yield* Settings
  const { leaseDuration, leaseRenewInterval } = yield* Intervals
  const network = yield* Network
  const id = newId()
  const { drain, isDraining, isStopping } = yield* makeDrain(store, id)
  const leaseMillis = Duration.toMillis(leaseDuration)
  let epoch: string | undefined
  let hasOtherNodes = false
  // Only the process that has locked the data directory uses the embedded database, so every lease there is of an ended one.
  const isOnlyNode = Option.isNone(databaseUrl)
  if (isOnlyNode) yield* store.expireAll
  let renewedAt = yield* monotonicMillis
  let heldSince = isOnlyNode ? -Infinity : renewedAt

  const renew = Effect.gen(function*() {
    const startedAt = yield* monotonicMillis
    const clients = yield* Effect.provide(connected, services)
    const { revision } = yield* network.state
    const renewal = { id, name: nodeName, version: packageJson.version, clients, revision }
    const renewed = (yield* store.renew(renewal, leaseDuration)) ??
      ((yield* isStopping) ? undefined : yield* cancelDrain(store, renewal, leaseDuration))
    if (renewed !== undefined) ({ epoch, hasOtherNodes } = renewed)
    const endedAt = yield* monotonicMillis
    if (endedAt - renewedAt > leaseMillis) heldSince = endedAt
    renewedAt = startedAt
  })

  // A node that has not read the network holds no lease, because it cannot take clients of other nodes yet.
  const runFenced = <A>(write: Effect.Effect<A, LeaseLapsed | StoreUnavailable>) =>
    Effect.andThen(network.loaded, Effect.catchTag(write, "LeaseLapsed", () => Effect.andThen(renew, write))).pipe(
      Effect.catchTag("LeaseLapsed", () => Effect.fail(new StoreUnavailable({ reason: "this node has no lease" })))
    )

  const beginLease = Effect.gen(function*() {
    yield* network.loaded
    renewedAt = yield* monotonicMillis
    if (!isOnlyNode) heldSince = renewedAt
  })
  yield* renew.pipe(
    Effect.catchCause((cause) => Effect.logWarning("cannot renew the lease of this node; retrying", cause)),
    Effect.repeat(Schedule.spaced(leaseRenewInterval)),
    (renewing) => Effect.andThen(beginLease, renewing),
    Effect.ignore,
    Effect.forkScoped
  )

  return NodeLease.of({
    id,
    name: nodeName,
    hasOtherNodes: Effect.sync(() => hasOtherNodes),
    epoch: Effect.sync(() => epoch),
    runFenced,
    mayExpireOthers: Effect.map(
      monotonicMillis,
      (now) => now - renewedAt < leaseMillis && now - heldSince >= leaseMillis
    ),
    drain,
    isDraining
  })
})

/** End of a lease: drained if another node is there, and released when the scope closes. */
const makeDrain = Effect.fnUntraced(function*(store: NodeStore["Service"], id: string) {
  const { drainGrace } = yield* Intervals
  let isDraining = false
  let isStopping = false

  const drain = (window: Duration.Duration) =>
    Effect.suspend(() => {
      isStopping = true
      return store.startDrain(id, Duration.sum(window, drainGrace))
    }).pipe(
      Effect.timeout("3 seconds"),
      Effect.catchCause((cause) =>
        Effect.as(Effect.logWarning("cannot mark this node as draining; its clients are shown offline", cause), false)
      ),
      Effect.tap((hasOther) => Effect.sync(() => isDraining = hasOther))
    )

  // Registered before the fiber that renews, so that it runs after the last renewal. A node that drains releases too: the
  // nodes that its clients should reconnect to may have stopped in the meantime.
  yield* Effect.addFinalizer(() =>
    store.release(id).pipe(
      Effect.timeout("3 seconds"),
      Effect.andThen(Effect.logDebug("shutdown: the lease is released")),
      Effect.catchCause((cause) =>
        Effect.logWarning("cannot release the lease of this node; it expires by itself", cause)
      )
    )
  )
  return { drain, isDraining: Effect.sync(() => isDraining), isStopping: Effect.sync(() => isStopping) }
})

/** Makes a node live again that drains without stopping, because another process has changed its row. */
const cancelDrain = Effect.fnUntraced(
  function*(store: NodeStore["Service"], renewal: LeaseRenewal, leaseDuration: Duration.Duration) {
    if (yield* store.cancelDrain(renewal.id))
      yield* Effect.logWarning(`node ${renewal.id} was marked as draining by another process; continuing`)
    return yield* store.renew(renewal, leaseDuration)
  }
)
