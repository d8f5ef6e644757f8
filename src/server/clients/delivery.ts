/** Delivery of one change to the clients that it concerns, judged from their delivery states. Pure. */
import * as BucketMap from "#network/BucketMap.ts"
import * as History from "#network/History.ts"
import type { NetworkState } from "#network/NetworkState.ts"
import { mayAffect } from "#network/scope.ts"
import type { RecordedNack } from "#schema/messagesFromClients.ts"
import { type ClientRef, formatClientRef, Revision } from "#schema/ids.ts"
import { supportsMessage } from "#schema/protocol.ts"
import { HashMap } from "effect"
import type { Client } from "./ClientRegistry.ts"
import type { DeliveryState } from "./DeliveryState.ts"

export type Goal = "sent" | "applied"

/** Delivery of one change to all clients that it concerns. */
export interface Delivery extends ConnectedDelivery {
  /** Clients that are not connected to any node and get the change when they connect; the first 1000. */
  readonly offline: ReadonlyArray<ClientRef>
}

/** Delivery of one change to the connected clients that it concerns. */
export interface ConnectedDelivery {
  readonly revision: Revision
  /** Number of clients that were sent the change. */
  readonly sent: number
  /** Number of clients that have acknowledged the change. */
  readonly applied: number
  /** Clients that have not reached the goal, with their progress. A client at the plain level cannot acknowledge. */
  readonly pending: ReadonlyArray<{ readonly client: ClientRef; readonly revision: Revision }>
  /** Clients that could not apply the change. */
  readonly nacks: ReadonlyArray<{ readonly client: ClientRef; readonly nack: RecordedNack }>
}

/** `waitedFor`: number of pending clients that may still reach the goal. */
export function judge(
  revision: Revision,
  goal: Goal,
  clients: ReadonlyArray<Client>,
  isSent: (client: Client, revision: Revision) => boolean
): { readonly reached: ConnectedDelivery; readonly waitedFor: number } {
  const sent = clients.filter((client) => isSent(client, revision))
  const applied = sent.filter(({ delivery }) => isApplied(delivery, revision))
  const done = new Set<Client>(goal === "sent" ? sent : applied)
  const rejecting = clients.filter((client) => !applied.includes(client) && isRejected(client.delivery, revision))
  const nacks = rejecting.flatMap(({ delivery: { rejected }, ref }) =>
    rejected === undefined ? [] : [{ client: ref, nack: rejected }]
  )
  const pending = clients.filter((client) => !done.has(client) && (goal === "sent" || !rejecting.includes(client)))
  const waitedFor = pending.filter((client) =>
    goal === "sent" || supportsMessage(client.level, "ack") || !isSent(client, revision)
  )
  return {
    reached: {
      revision,
      sent: sent.length,
      applied: applied.length,
      pending: pending.map(({ delivery, ref }) => ({
        client: ref,
        revision: goal === "sent" ? delivery.sent : delivery.acknowledged ?? Revision.make(0)
      })),
      nacks
    },
    waitedFor: waitedFor.length
  }
}

/** A client acknowledges revisions of messages, so that the last message up to this revision decides. */
function isApplied({ acknowledged, lastMessageRevision }: DeliveryState, revision: Revision): boolean {
  return acknowledged !== undefined && acknowledged >= Math.min(revision, lastMessageRevision)
}

/** A `nack` of an earlier view does not count, because the client may be able to apply a later view. */
function isRejected({ lastMessageRevision, rejected }: DeliveryState, revision: Revision): boolean {
  return rejected !== undefined && rejected.revision >= Math.min(revision, lastMessageRevision)
}

/** The first 1000 clients that the change of this revision concerns and that are not connected to this process. */
export function offlineClients(
  state: NetworkState,
  connected: ReadonlyArray<Client>,
  revision: Revision
): ReadonlyArray<ClientRef> {
  const touched = History.entryAt(state.history, revision)
  if (touched === undefined) return []
  const names = new Set(connected.map(({ ref }) => formatClientRef(ref)))
  return allClients(state).filter((ref) => mayAffect(state, touched, ref) && !names.has(formatClientRef(ref)))
    .slice(0, maxOfflineClients)
}

const maxOfflineClients = 1_000

function allClients({ agents, gateways }: NetworkState): ReadonlyArray<ClientRef> {
  return [
    ...BucketMap.values(agents).map(({ id }) => ({ type: "agent" as const, id })),
    ...[...HashMap.keys(gateways)].map((id) => ({ type: "gateway" as const, id }))
  ]
}
