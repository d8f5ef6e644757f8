/** /api/network */
import { Network } from "#feed/Network.ts"
import { Api } from "#schema/api.ts"
import { NothingHeld } from "#schema/problems.ts"
import { DateTime, Effect, Option } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { problemOf } from "./problems.ts"

const mostLeftOut = 1_000

export const layer = HttpApiBuilder.group(
  Api,
  "network",
  Effect.fnUntraced(function*(handlers) {
    const network = yield* Network
    const shown = Effect.gen(function*() {
      const { revision, timeline } = yield* network.state
      const held = Option.getOrNull(yield* network.held)
      const leftOut = (yield* network.leftOut).slice(0, mostLeftOut)
      return {
        timeline,
        revision,
        held: held && { ...held, since: DateTime.formatIso(held.since) },
        leftOut: leftOut.map(({ entity, id, reason }) => ({ entityType: entity, entityId: id, reason }))
      }
    })
    return handlers.handleAll({
      get: () => shown,
      accept: ({ payload: { timeline } }) =>
        Effect.gen(function*() {
          const isAccepted = yield* Effect.mapError(network.accept(timeline), problemOf)
          if (!isAccepted) {
            return yield* new NothingHeld({ detail: "GET /api/network says what is held back, if anything is" })
          }
          return yield* shown
        })
    })
  })
)
