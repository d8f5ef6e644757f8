/** Handlers of /api/tunnels. */
import { Api } from "#schema/api.ts"
import type { WaitQuery } from "#schema/delivery.ts"
import type { Tunnel } from "#schema/tunnelResources.ts"
import { References } from "#services/References.ts"
import { type ClientProgress, Serving } from "#services/Serving.ts"
import { Tunnels } from "#services/Tunnels.ts"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { makeDeliveryWait, makeLiveState } from "./waitForDelivery.ts"
import { pageRequest } from "./pagination.ts"
import { problemOf } from "./problems.ts"

export const layer = HttpApiBuilder.group(
  Api,
  "tunnels",
  Effect.fnUntraced(function*(handlers) {
    const tunnels = yield* Tunnels
    const references = yield* References
    const serving = yield* Serving
    const { progress: addProgress } = yield* makeLiveState
    const { deletionResult, tunnelDeliveryFields } = yield* makeDeliveryWait
    /** An update without effect waits for the change that created the current row. */
    const awaitDelivery = (query: WaitQuery) => (tunnel: Tunnel) =>
      Effect.map(tunnelDeliveryFields(query, tunnel), (delivery) => ({ ...tunnel, ...delivery }))
    const withClients = Effect.fnUntraced(function*(tunnel: Tunnel) {
      const rows = yield* serving.clientsOf(tunnel)
      const clients = yield* Effect.forEach(rows, (row) => Effect.map(addProgress(row), toTunnelClient(tunnel)))
      return { ...tunnel, clients }
    })
    return handlers.handleAll({
      create: ({ payload, query }) =>
        references.agentInBody(payload.agentId).pipe(
          Effect.flatMap((agentId) => tunnels.create({ ...payload, agentId })),
          Effect.flatMap(awaitDelivery(query)),
          Effect.mapError(problemOf)
        ),
      list: ({ query: { agent, ...query } }) =>
        Effect.gen(function*() {
          const filter = agent === undefined ? query : { ...query, agent: yield* references.agentInBody(agent) }
          return yield* tunnels.list(pageRequest(query), filter)
        }).pipe(Effect.mapError(problemOf)),
      get: ({ params }) =>
        references.tunnel(params.id).pipe(
          Effect.flatMap(tunnels.find),
          Effect.flatMap(withClients),
          Effect.mapError(problemOf)
        ),
      update: ({ params, payload, query }) =>
        Effect.gen(function*() {
          const id = yield* references.tunnel(params.id)
          const { agentId: agent, ...patch } = payload
          return yield* tunnels.update(
            id,
            agent === undefined ? patch : { ...patch, agentId: yield* references.agentInBody(agent) }
          )
        }).pipe(Effect.flatMap(awaitDelivery(query)), Effect.mapError(problemOf)),
      remove: ({ params, query }) =>
        references.tunnel(params.id).pipe(
          Effect.flatMap(tunnels.remove),
          Effect.flatMap((revision) => deletionResult(query, revision)),
          Effect.mapError(problemOf)
        )
    })
  })
)

/** Compares a client's progress with the tunnel's revision. */
const toTunnelClient =
  ({ revision }: Tunnel) =>
  ({ appliedRevision, clientId, clientName, clientType, sentRevision, status }: ClientProgress) => ({
    clientType,
    clientId,
    clientName,
    status,
    wanted: revision,
    sent: sentRevision,
    applied: appliedRevision
  })
