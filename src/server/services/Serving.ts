/** Truth about serving: reports of the gateways that serve a tunnel, and the progress of its clients. */
import { Network } from "#feed/Network.ts"
import { scopedGateway, servesTunnel } from "#network/scope.ts"
import { type ClientRef, GatewayId } from "#schema/ids.ts"
import type { PeerReport } from "#schema/statusMessage.ts"
import type { Tunnel } from "#schema/tunnelResources.ts"
import { type ClientProgress, type GatewayServing, ReportStore } from "#store/ReportStore.ts"
import type { StoreUnavailable } from "#store/sql.ts"
import { Intervals } from "#time/Intervals.ts"
import { monotonicMillis } from "#time/monotonic.ts"
import { Context, Effect, Layer } from "effect"

export type { ClientProgress } from "#store/ReportStore.ts"

type ServedTunnel = Pick<Tunnel, "id" | "agentId" | "domain" | "enabled">

export class Serving extends Context.Service<Serving, {
  /** Online gateways at `control.v1` that serve the tunnel, each with its report. A disabled tunnel has none. */
  of(tunnel: ServedTunnel): Effect.Effect<ReadonlyArray<GatewayServing>, StoreUnavailable>
  /** Returns when every gateway of `of` reports `serving`, or after `timeoutMillis`. */
  awaitServing(
    tunnel: ServedTunnel,
    timeoutMillis: number
  ): Effect.Effect<ReadonlyArray<GatewayServing>, StoreUnavailable>
  /** The tunnel's agent, and the gateways that serve the tunnel, also if they are offline. */
  clientsOf(tunnel: ServedTunnel): Effect.Effect<ReadonlyArray<ClientProgress>, StoreUnavailable>
  /** Facts that the client reports about its peers. */
  peersOf(client: ClientRef): Effect.Effect<ReadonlyArray<PeerReport>, StoreUnavailable>
}>()("control/services/Serving") {
  static readonly layer = Layer.effect(
    Serving,
    Effect.gen(function*() {
      const store = yield* ReportStore
      const network = yield* Network
      const { remoteDeliveryPollInterval } = yield* Intervals

      const isServedBy = (tunnel: ServedTunnel) =>
        Effect.map(network.state, (state) => (id: GatewayId) => {
          const gateway = scopedGateway(state, id)
          return gateway === undefined ||
            servesTunnel(gateway, { agentId: tunnel.agentId, domain: tunnel.domain ?? "" })
        })

      const of = Effect.fn("Serving.of")(function*(tunnel: ServedTunnel) {
        if (!tunnel.enabled) return []
        const isServed = yield* isServedBy(tunnel)
        return (yield* store.servingOf(tunnel.id)).filter(({ gatewayId }) => isServed(gatewayId))
      })

      const awaitServing = Effect.fn("Serving.awaitServing")(function*(tunnel: ServedTunnel, timeoutMillis: number) {
        const deadline = (yield* monotonicMillis) + timeoutMillis
        while (true) {
          const gateways = yield* of(tunnel)
          const isDone = gateways.every(({ status }) => status === "serving")
          if (isDone || (yield* monotonicMillis) >= deadline) return gateways
          yield* Effect.sleep(remoteDeliveryPollInterval)
        }
      })

      const clientsOf = Effect.fn("Serving.clientsOf")(function*(tunnel: ServedTunnel) {
        const isServed = yield* isServedBy(tunnel)
        return (yield* store.progressOf(tunnel.agentId)).filter(({ clientId, clientType }) =>
          clientType === "agent" || isServed(GatewayId.make(clientId))
        )
      })

      return Serving.of({ of, awaitServing, clientsOf, peersOf: store.peersOf })
    })
  )
}
