/** Adds delivery state to responses: the result of `?wait=`, and fresher values than the rows. */
import { Deliveries } from "#clients/Deliveries.ts"
import type { Delivery as DeliveryStatus, Goal } from "#clients/delivery.ts"
import { defaultWaitMillis, type Delivery, type WaitQuery } from "#schema/delivery.ts"
import { AgentId, type ClientRef, GatewayId, type Revision } from "#schema/ids.ts"
import type { Agent, ConnectedClient, Gateway } from "#schema/resources.ts"
import type { Tunnel } from "#schema/tunnelResources.ts"
import { type ClientProgress, Serving } from "#services/Serving.ts"
import { monotonicMillis } from "#time/monotonic.ts"
import { Duration, Effect, Option, Schema } from "effect"

export const makeDeliveryWait = Effect.gen(function*() {
  const deliveries = yield* Deliveries
  const serving = yield* Serving

  /** Null while the database is unreachable. The change is stored, so this is no error. */
  const awaitDelivery = (goal: Goal, { timeout = defaultWaitMillis }: WaitQuery, revision: Revision) =>
    deliveries.awaitDelivery(revision, goal, Duration.millis(timeout)).pipe(
      Effect.map((status): Delivery | null => toApiDelivery(status)),
      Effect.catchTag("StoreUnavailable", () => Effect.succeed(null))
    )

  /** The rest of the timeout is for the reports of gateways. */
  const awaitServing = Effect.fnUntraced(function*(query: WaitQuery, tunnel: Tunnel) {
    const start = yield* monotonicMillis
    const delivery = yield* awaitDelivery("applied", query, tunnel.revision)
    const left = start + (query.timeout ?? defaultWaitMillis) - (yield* monotonicMillis)
    return yield* serving.awaitServing(tunnel, left).pipe(
      Effect.map((gateways): Delivery | null => delivery && { ...delivery, serving: gateways }),
      Effect.catchTag("StoreUnavailable", () => Effect.succeed(null))
    )
  })

  const deliveryFields = (
    query: WaitQuery,
    revision: Revision
  ): Effect.Effect<{ readonly delivery?: Delivery | null }> =>
    query.wait === undefined
      ? Effect.succeed({})
      : Effect.map(awaitDelivery(goalOf(query.wait), query, revision), (delivery) => ({ delivery }))

  return {
    /** As `deliveryFields`, for a created or changed tunnel, which can also be waited for until it is served. */
    tunnelDeliveryFields: (
      query: WaitQuery,
      tunnel: Tunnel
    ): Effect.Effect<{ readonly delivery?: Delivery | null }> =>
      query.wait === "serving"
        ? Effect.map(awaitServing(query, tunnel), (delivery) => ({ delivery }))
        : deliveryFields(query, tunnel.revision),
    /** Waits if the request asks for it, and returns the fields to add to the resource; empty without `wait`. */
    deliveryFields,
    /** Waits if the request asks for it, and returns the response body of a deletion; none without `wait`. */
    deletionResult: (
      query: WaitQuery,
      revision: Revision
    ): Effect.Effect<{ readonly delivery: Delivery | null } | void> =>
      query.wait === undefined
        ? Effect.void
        : Effect.map(awaitDelivery(goalOf(query.wait), query, revision), (delivery) => ({ delivery }))
  }
})

const goalOf = (wait: "sent" | "applied" | "serving"): Goal => wait === "sent" ? "sent" : "applied"

/** Overrides delivery state from rows, which are written every 5 s, with the state in memory of clients of this node. */
export const makeLiveState = Effect.gen(function*() {
  const deliveries = yield* Deliveries

  const addLiveState = <A extends Pick<Agent, "sentRevision" | "appliedRevision">>(
    ref: ClientRef,
    row: A
  ) =>
    Effect.map(deliveries.progressOf(ref), (progress): A =>
      Option.match(progress, {
        onNone: () => row,
        onSome: ({ acknowledged: applied, rejected: nack, sent }) => ({
          ...row,
          sentRevision: sent,
          appliedRevision: applied ?? null,
          lastNack: nack ?? null
        })
      }))

  const ofClient = <
    A extends Pick<ConnectedClient, "clientId" | "clientType" | "sentRevision" | "appliedRevision">
  >(client: A) =>
    Option.match(refOf(client), {
      onNone: () => Effect.succeed(client),
      onSome: (ref) => addLiveState(ref, client)
    })

  return {
    agent: (agent: Agent) => addLiveState({ type: "agent", id: agent.id }, agent),
    gateway: (gateway: Gateway) => addLiveState({ type: "gateway", id: gateway.id }, gateway),
    client: ofClient<ConnectedClient>,
    progress: ofClient<ClientProgress>
  }
})

/** None for an id that no client can authenticate with. */
const refOf = ({ clientId, clientType }: Pick<ConnectedClient, "clientId" | "clientType">): Option.Option<ClientRef> =>
  clientType === "agent"
    ? Option.map(decodeAgentId(clientId), (id) => ({ type: "agent", id }))
    : Option.map(decodeGatewayId(clientId), (id) => ({ type: "gateway", id }))

const decodeAgentId = Schema.decodeUnknownOption(AgentId)
const decodeGatewayId = Schema.decodeUnknownOption(GatewayId)

function toApiDelivery({ applied, nacks, offline, pending, revision, sent }: DeliveryStatus): Delivery {
  return {
    revision,
    sent,
    applied,
    pending: pending.map(({ client, revision }) => ({ ...clientFields(client), revision })),
    nacks: nacks.map(({ client, nack: { at: _, ...nack } }) => ({ ...clientFields(client), ...nack })),
    offline: offline.map(clientFields)
  }
}

function clientFields({ id, type }: ClientRef) {
  return { clientType: type, clientId: id }
}
