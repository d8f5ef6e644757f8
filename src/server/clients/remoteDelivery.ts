/** Delivery of a change to clients of other nodes, read from their rows. */
import { formatClientRef, Revision } from "#schema/ids.ts"
import { PresenceStore, type RemoteClient } from "#store/PresenceStore.ts"
import { Intervals } from "#time/Intervals.ts"
import { monotonicMillis } from "#time/monotonic.ts"
import { Effect } from "effect"
import type { Delivery, Goal } from "./delivery.ts"

export const makeRemoteDelivery = Effect.gen(function*() {
  const { findOnline } = yield* PresenceStore
  const { remoteDeliveryPollInterval } = yield* Intervals

  /**
   * Adds the clients that are connected to other nodes to the delivery of this node. Polls their rows, which are written some
   * seconds late, until all of them have reached the goal or `timeoutMillis` is over. Without an answer from the database, the
   * delivery of this node is returned as it is.
   */
  return (local: Delivery, goal: Goal, timeoutMillis: number): Effect.Effect<Delivery> =>
    Effect.gen(function*() {
      const deadline = (yield* monotonicMillis) + timeoutMillis
      while (local.offline.length > 0) {
        const remote = yield* findOnline(local.offline)
        if (remote.length === 0) break
        const merged = merge(local, remote, goal)
        if (merged.pending.length === local.pending.length || (yield* monotonicMillis) >= deadline) return merged
        yield* Effect.sleep(remoteDeliveryPollInterval)
      }
      return local
    }).pipe(Effect.catchTag("StoreUnavailable", () => Effect.succeed(local)))
})

/** Pure. */
function merge(local: Delivery, remote: ReadonlyArray<RemoteClient>, goal: Goal): Delivery {
  const { revision } = local
  const online = new Set(remote.map(({ client }) => formatClientRef(client)))
  const rejecting = remote.flatMap(({ client, nack }) =>
    nack !== null && nack.revision >= revision ? [{ client, nack }] : []
  )
  const rejected = new Set(rejecting.map(({ client }) => formatClientRef(client)))
  const isReached = (reached: Revision | null) => reached !== null && reached >= revision
  const progressOf = (client: RemoteClient) => goal === "sent" ? client.sent : client.applied
  const pending = remote.filter((each) =>
    !isReached(progressOf(each)) && !(goal === "applied" && rejected.has(formatClientRef(each.client)))
  )
  return {
    revision,
    sent: local.sent + remote.filter(({ sent }) => isReached(sent)).length,
    applied: local.applied + remote.filter(({ applied }) => isReached(applied)).length,
    pending: [
      ...local.pending,
      ...pending.map((each) => ({ client: each.client, revision: progressOf(each) ?? Revision.make(0) }))
    ],
    nacks: [...local.nacks, ...rejecting],
    offline: local.offline.filter((client) => !online.has(formatClientRef(client)))
  }
}
