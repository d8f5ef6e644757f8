/** Handlers of /api/network. */
import { Network } from "#feed/Network.ts"
import { clientUrl } from "#ingress/clientUrl.ts"
import { Ingress } from "#ingress/Ingress.ts"
import { Api } from "#schema/api.ts"
import { NothingHeld, StoreUnavailable } from "#schema/problems.ts"
import { Settings } from "#server/Settings.ts"
import { DateTime, Effect, Option } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { problemOf } from "./problems.ts"
import { notReadyReason } from "./readiness.ts"

/** Rows in one response; the doctor reports the total. */
const maxUnreadable = 1_000

export const layer = HttpApiBuilder.group(
  Api,
  "network",
  Effect.fnUntraced(function*(handlers) {
    const network = yield* Network
    const settings = yield* Settings
    const ingress = yield* Ingress
    const loaded = Effect.timeoutOrElse(Effect.mapError(network.loaded, problemOf), {
      duration: "200 millis",
      orElse: () =>
        Effect.flatMap(
          notReadyReason(network),
          (detail) => detail === undefined ? Effect.void : Effect.fail(new StoreUnavailable({ detail }))
        )
    })
    const networkStatus = Effect.gen(function*() {
      yield* loaded
      const { revision, timeline } = yield* network.state
      const held = Option.getOrNull(yield* network.held)
      const unreadableRows = (yield* network.unreadable).slice(0, maxUnreadable)
      return {
        timeline,
        revision,
        clientUrl: clientUrl(settings, ingress.boundAddress("ws")?.port ?? settings.wsPort),
        held: held && { ...held, since: DateTime.formatIso(held.since) },
        unreadable: unreadableRows.map(({ entity, id, reason }) => ({ entityType: entity, entityId: id, reason }))
      }
    })
    return handlers.handleAll({
      get: () => networkStatus,
      accept: ({ payload: { timeline } }) =>
        Effect.gen(function*() {
          const isAccepted = yield* Effect.mapError(network.accept(timeline), problemOf)
          if (!isAccepted) {
            return yield* new NothingHeld({ detail: "no update is held back; GET /api/network shows the state" })
          }
          return yield* networkStatus
        })
    })
  })
)
