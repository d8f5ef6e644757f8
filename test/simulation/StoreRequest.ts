/** Requests to the stores, and the few ids that they use, so that requests meet the same rows. */
import { AgentId, type ClientRef, GatewayId, HostName, KeyId, SessionId, TunnelId } from "#schema/ids.ts"
import type { AgentStore } from "#store/AgentStore.ts"
import type { CertificateStore } from "#store/CertificateStore.ts"
import type { GatewayStore } from "#store/GatewayStore.ts"
import type { ApiKeyStore } from "#store/ApiKeyStore.ts"
import type { NodeStore } from "#store/NodeStore.ts"
import type { PresenceStore } from "#store/PresenceStore.ts"
import type { ReportStore } from "#store/ReportStore.ts"
import type { TunnelStore } from "#store/TunnelStore.ts"
import type { Effect } from "effect"
import type { Random } from "./Random.ts"

export type Stores =
  | AgentStore
  | GatewayStore
  | TunnelStore
  | ReportStore
  | CertificateStore
  | ApiKeyStore
  | PresenceStore
  | NodeStore

/** A request to a store; the test compares the responses of both implementations. */
export interface StoreRequest {
  readonly name: string
  readonly effect: Effect.Effect<unknown, unknown, Stores>
}

export const agents = ["a1", "a2", "a3"].map((id) => AgentId.make(id))
export const gateways = ["g1", "g2"].map((id) => GatewayId.make(id))
export const tunnels = ["t1", "t2", "t3", "t4"].map((id) => TunnelId.make(id))
export const domains = ["a.example.com", "b.example.com", "*.example.com", "c.d.example.com"].map((name) =>
  HostName.make(name)
)
export const keys = ["k1", "k2", "k3", "k4"].map((id) => KeyId.make(id))
export const sessions = ["s1", "s2", "s3"].map((id) => SessionId.make(id))

export const allClients: ReadonlyArray<ClientRef> = [
  ...agents.map((id) => ({ type: "agent" as const, id })),
  ...gateways.map((id) => ({ type: "gateway" as const, id }))
]

/** One of the items; throws when there are none. */
export const pick = <A>(random: Random, items: readonly [A, ...ReadonlyArray<A>] | ReadonlyArray<A>): A => {
  const picked = random.pick(items)
  if (picked === undefined) throw new Error("cannot pick an item from an empty list")
  return picked
}

/** The first id without a row. The stores do not handle duplicate ids, which PostgreSQL rejects by its own constraints. */
export const findUnused = <Id extends string>(
  ids: ReadonlyArray<Id>,
  table: ReadonlyMap<string, unknown>
): Id | undefined => ids.find((id) => !table.has(id))
