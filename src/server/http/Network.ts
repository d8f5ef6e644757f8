/** Handlers of /api/network. */
import { Network } from "#feed/Network.ts"
import { Api } from "#schema/api.ts"
import { NothingHeld } from "#schema/problems.ts"
import { DateTime, Effect, Option } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { problemOf } from "./problems.ts"

/** Rows in one response; the doctor reports the total. */
const maxUnreadable = 1_000

export const layer = HttpApiBuilder.group(
  Api,
  "network",
  Effect.fnUntraced(function*(handlers) {
    const network = yield* Network
    const networkStatus = Effect.gen(function*() {
      yield* Effect.timeoutOrElse(network.loaded, { duration: "2 seconds", orElse: () => network.catchUp })
      const { revision, timeline } = yield* network.state
      const held = Option.getOrNull(yield* network.held)
      const unreadableRows = (yield* network.unreadable).slice(0, maxUnreadable)
      return {
        timeline,
        revision,
        held: held && { ...held, since: DateTime.formatIso(held.since) },
        unreadable: unreadableRows.map(({ entity, id, reason }) => ({ entityType: entity, entityId: id, reason }))
      }
    })
    return handlers.handleAll({
      get: () => Effect.mapError(networkStatus, problemOf),
      accept: ({ payload: { timeline } }) =>
        Effect.gen(function*() {
          const isAccepted = yield* Effect.mapError(network.accept(timeline), problemOf)
          if (!isAccepted) {
            return yield* new NothingHeld({ detail: "no update is held back; GET /api/network shows the state" })
          }
          return yield* Effect.mapError(networkStatus, problemOf)
        })
    })
  })
)
