/** This process among all that serve one database: its lease, and what follows from one that has lapsed. */
import { newId } from "#crypto/identifiers.ts"
import { Network } from "#feed/Network.ts"
import packageJson from "#package.json" with { type: "json" }
import { Settings } from "#server/Settings.ts"
import { type LeaseRenewal, NodeStore } from "#store/NodeStore.ts"
import { type LeaseLapsed } from "#store/PresenceStore.ts"
import { StoreUnavailable } from "#store/sql.ts"
import { Context, Duration, Effect, Layer, Schedule } from "effect"
import { monotonicMillis } from "#time/monotonic.ts"

/** How long a node counts as living without another word; a quarter of it between two words. */
const lease = Duration.seconds(10)
const renewEvery = Duration.millis(2_500)

/** How long a client that comes to another node when it was told to may still be on its way. */
const grace = Duration.seconds(12)

export class NodeLease extends Context.Service<NodeLease, {
  /** Names this process among all that serve the same database. */
  readonly id: string
  /** The same for people, who may have given several the same name. */
  readonly name: string
  /** Whether another node lives, as it was when the lease was renewed last. */
  readonly hasOtherNodes: Effect.Effect<boolean>
  /** The mark of its lease: another one after others have shown this node's clients offline. */
  readonly epoch: Effect.Effect<string | undefined>
  /** Writes what only a node with a lease may write; one that has lapsed is renewed before that. */
  runFenced<A>(write: Effect.Effect<A, LeaseLapsed | StoreUnavailable>): Effect.Effect<A, StoreUnavailable>
  /**
   * Whether this node has held its lease for as long as one lasts: before that, others may have lost theirs for the same
   * reason, a database that was away, and are about to come back.
   */
  readonly mayExpireOthers: Effect.Effect<boolean>
  /** This node stops, and tells its clients to come back within so long: tells whether they have another node to come to. */
  drain(within: Duration.Duration): Effect.Effect<boolean>
  readonly isDraining: Effect.Effect<boolean>
}>()("control/cluster/NodeLease") {
  /** `connected` counts the clients of this node; the lease publishes the number with each renewal. */
  static readonly layer = <R>(connected: Effect.Effect<number, never, R>) =>
    Layer.effect(NodeLease, makeNodes(connected))
}

const makeNodes = Effect.fnUntraced(function*<R>(connected: Effect.Effect<number, never, R>) {
  const services = yield* Effect.context<R>()
  const store = yield* NodeStore
  const { nodeName } = yield* Settings
  const network = yield* Network
  const id = newId()
  const { handOver, isHandedOver, isLeaving } = yield* makeHandOver(store, id)
  let mark: string | undefined
  let hasOthers = false
  let renewedAt = yield* monotonicMillis
  let heldSince = renewedAt

  const renew = Effect.gen(function*() {
    const begun = yield* monotonicMillis
    const clients = yield* Effect.provide(connected, services)
    const { revision } = yield* network.state
    const renewal = { id, name: nodeName, version: packageJson.version, clients, revision }
    const renewed = (yield* store.renew(renewal, lease)) ??
      ((yield* isLeaving) ? undefined : yield* takeBack(store, renewal))
    if (renewed !== undefined) ({ hasOtherNodes: hasOthers, epoch: mark } = renewed)
    const ended = yield* monotonicMillis
    if (ended - renewedAt > Duration.toMillis(lease)) heldSince = ended
    renewedAt = begun
  })

  const leased = <A>(write: Effect.Effect<A, LeaseLapsed | StoreUnavailable>) =>
    Effect.catchTag(write, "LeaseLapsed", () => Effect.andThen(renew, write)).pipe(
      Effect.catchTag("LeaseLapsed", () => Effect.fail(new StoreUnavailable({ reason: "this node has no lease" })))
    )

  yield* renew.pipe(
    Effect.catchCause((cause) => Effect.logWarning("this node's lease could not be renewed; trying again", cause)),
    Effect.repeat(Schedule.spaced(renewEvery)),
    Effect.forkScoped
  )

  return NodeLease.of({
    id,
    name: nodeName,
    hasOtherNodes: Effect.sync(() => hasOthers),
    epoch: Effect.sync(() => mark),
    runFenced: leased,
    mayExpireOthers: Effect.map(
      monotonicMillis,
      (now) => now - renewedAt < Duration.toMillis(lease) && now - heldSince >= Duration.toMillis(lease)
    ),
    drain: handOver,
    isDraining: isHandedOver
  })
})

/** The end of a lease: handed over to the other nodes, or else given up when the scope closes, after the last renewal. */
const makeHandOver = Effect.fnUntraced(function*(store: NodeStore["Service"], id: string) {
  let isHandedOver = false
  let isLeaving = false

  const handOver = (within: Duration.Duration) =>
    Effect.suspend(() => {
      isLeaving = true
      return store.startDrain(id, Duration.sum(within, grace))
    }).pipe(
      Effect.timeout("3 seconds"),
      Effect.catchCause((cause) =>
        Effect.as(Effect.logWarning("it could not be asked whether there is another node", cause), false)
      ),
      Effect.tap((there) => Effect.sync(() => isHandedOver = there))
    )

  // Registered before the fiber that renews, so that it runs after the last renewal.
  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => isHandedOver ? Effect.void : store.release(id)).pipe(
      Effect.timeout("3 seconds"),
      Effect.catchCause((cause) => Effect.logWarning("this node's lease is left to lapse", cause))
    )
  )
  return { handOver, isHandedOver: Effect.sync(() => isHandedOver), isLeaving: Effect.sync(() => isLeaving) }
})

/** A node that does not stop and drains all the same: its row was changed by somebody else. */
const takeBack = Effect.fnUntraced(function*(store: NodeStore["Service"], renewal: LeaseRenewal) {
  yield* Effect.logWarning(`node ${renewal.id} was set to drain by somebody else, and goes on`)
  yield* store.cancelDrain(renewal.id)
  return yield* store.renew(renewal, lease)
})
