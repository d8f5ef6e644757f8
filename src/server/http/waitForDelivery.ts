/** What is known of how far clients have come, beside what the rows say: for changes that wait, and for what is shown. */
import { Deliveries } from "#clients/Deliveries.ts"
import type { Delivery as Known } from "#clients/delivery.ts"
import { type Delivery, usualWaitMillis, type WaitQuery } from "#schema/delivery.ts"
import { AgentId, type ClientRef, GatewayId, type Revision } from "#schema/ids.ts"
import type { Agent, ConnectedClient, Gateway } from "#schema/resources.ts"
import { Duration, Effect, Option, Schema } from "effect"

export const makeWaiting = Effect.gen(function*() {
  const deliveries = yield* Deliveries

  /** Null when it cannot be told. The change is stored all the same, so this is no failure. */
  const deliveryOf = (goal: "sent" | "applied", { timeout = usualWaitMillis }: WaitQuery, revision: Revision) =>
    deliveries.awaitDelivery(revision, goal, Duration.millis(timeout)).pipe(
      Effect.map((known): Delivery | null => deliveryFrom(known)),
      Effect.catchTag("StoreUnavailable", () => Effect.succeed(null))
    )

  return {
    /** The fields to answer with beside the resource: none unless the request asked to wait. */
    delivered: (query: WaitQuery, revision: Revision): Effect.Effect<{ readonly delivery?: Delivery | null }> =>
      query.wait === undefined
        ? Effect.succeed({})
        : Effect.map(deliveryOf(query.wait, query, revision), (delivery) => ({ delivery })),
    /** The answer to a deletion: nothing, unless the request asked to wait. */
    deleted: (query: WaitQuery, revision: Revision): Effect.Effect<{ readonly delivery: Delivery | null } | void> =>
      query.wait === undefined
        ? Effect.void
        : Effect.map(deliveryOf(query.wait, query, revision), (delivery) => ({ delivery }))
  }
})

/** Rows are written every few seconds; who is connected to this process is known better. */
export const makeProgress = Effect.gen(function*() {
  const deliveries = yield* Deliveries

  const withProgress = <A extends Pick<Agent, "sentRevision" | "appliedRevision" | "lastNack">>(
    ref: ClientRef,
    row: A
  ) =>
    Effect.map(deliveries.progressOf(ref), (progress): A =>
      Option.match(progress, {
        onNone: () => row,
        onSome: ({ applied, nack, sent }) => ({
          ...row,
          sentRevision: sent,
          appliedRevision: applied ?? null,
          lastNack: nack ?? null
        })
      }))

  return {
    agent: (agent: Agent) => withProgress({ type: "agent", id: agent.id }, agent),
    gateway: (gateway: Gateway) => withProgress({ type: "gateway", id: gateway.id }, gateway),
    client: (client: ConnectedClient) =>
      Option.match(refOf(client), {
        onNone: () => Effect.succeed(client),
        onSome: (ref) => withProgress(ref, client)
      })
  }
})

/** None for an id that only a row can have. */
const refOf = ({ clientId, clientType }: ConnectedClient): Option.Option<ClientRef> =>
  clientType === "agent"
    ? Option.map(decodeAgentId(clientId), (id) => ({ type: "agent", id }))
    : Option.map(decodeGatewayId(clientId), (id) => ({ type: "gateway", id }))

const decodeAgentId = Schema.decodeUnknownOption(AgentId)
const decodeGatewayId = Schema.decodeUnknownOption(GatewayId)

function deliveryFrom({ applied, nacks, offline, pending, revision, sent }: Known): Delivery {
  return {
    revision,
    sent,
    applied,
    pending: pending.map(({ client, revision }) => ({ ...named(client), revision })),
    nacks: nacks.map(({ client, nack: { at: _, ...nack } }) => ({ ...named(client), ...nack })),
    offline: offline.map(named)
  }
}

function named({ id, type }: ClientRef) {
  return { clientType: type, clientId: id }
}
