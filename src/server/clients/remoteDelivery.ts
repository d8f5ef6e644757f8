/** Clients of other processes: how far they have come stands in their rows, some seconds later than it happens. */
import { type ClientRef, nameOf, Revision } from "#schema/ids.ts"
import type { Elsewhere, PresenceStore } from "#store/PresenceStore.ts"
import { Duration, Effect } from "effect"
import type { Delivery, Goal } from "./delivery.ts"
import { monotonicMillis } from "#time/monotonic.ts"

const lookEvery = Duration.millis(500)

/**
 * What has become of a change among those who are connected to another process, too: asked until all of them have reached
 * the goal, or this many milliseconds are over. A database that gives no answer leaves what is known here.
 */
export const withOthers = (
  { elsewhere }: PresenceStore["Service"],
  here: Delivery,
  goal: Goal,
  millis: number
): Effect.Effect<Delivery> =>
  Effect.gen(function*() {
    const deadline = (yield* monotonicMillis) + millis
    while (here.offline.length > 0) {
      const others = yield* elsewhere(here.offline)
      if (others.length === 0) break
      const all = together(here, others, goal)
      if (all.pending.length === here.pending.length || (yield* monotonicMillis) >= deadline) return all
      yield* Effect.sleep(lookEvery)
    }
    return here
  }).pipe(Effect.catchTag("StoreUnavailable", () => Effect.succeed(here)))

/** Pure. */
function together(here: Delivery, others: ReadonlyArray<Elsewhere>, goal: Goal): Delivery {
  const { revision } = here
  const online = new Map(others.map((other) => [nameOf(other.client), other]))
  const refusing = others.flatMap(({ client, nack }) =>
    nack !== null && nack.revision >= revision ? [{ client, nack }] : []
  )
  const refused = new Set(refusing.map(({ client }) => nameOf(client)))
  const has = (reached: Revision | null) => reached !== null && reached >= revision
  const reachedOf = (other: Elsewhere) => goal === "sent" ? other.sent : other.applied
  return {
    revision,
    sent: here.sent + others.filter(({ sent }) => has(sent)).length,
    applied: here.applied + others.filter(({ applied }) => has(applied)).length,
    pending: [
      ...here.pending,
      ...others.filter((other) => !has(reachedOf(other)) && !(goal === "applied" && refused.has(nameOf(other.client))))
        .map((other) => ({ client: other.client, revision: reachedOf(other) ?? none }))
    ],
    nacks: [...here.nacks, ...refusing],
    offline: here.offline.filter((client: ClientRef) => !online.has(nameOf(client)))
  }
}

const none = Revision.make(0)
