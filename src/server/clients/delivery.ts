/** Delivery of one change to the clients of this node, judged from their delivery states. Pure. */
import * as BucketMap from "#network/BucketMap.ts"
import * as History from "#network/History.ts"
import type { NetworkState } from "#network/NetworkState.ts"
import { concerns } from "#network/scope.ts"
import type { NotedNack } from "#schema/clientMessages.ts"
import { type ClientRef, nameOf, Revision } from "#schema/ids.ts"
import { canSay } from "#schema/protocol.ts"
import { HashMap } from "effect"
import type { Client } from "./ClientRegistry.ts"

export type Goal = "sent" | "applied"

/** What has become of one change among the clients that it concerns. */
export interface Delivery extends Reached {
  /** Whom it concerns and who is not connected to any process: they get it when they come. The first thousand. */
  readonly offline: ReadonlyArray<ClientRef>
}

/** The same among those who are connected. */
interface Reached {
  readonly revision: Revision
  /** How many were sent it. */
  readonly sent: number
  /** How many have said that it is in force. */
  readonly applied: number
  /** Who has not reached the goal, and how far they are. A client at the plain level cannot say what it applied. */
  readonly pending: ReadonlyArray<{ readonly client: ClientRef; readonly revision: Revision }>
  /** Who could not apply it. */
  readonly nacks: ReadonlyArray<{ readonly client: ClientRef; readonly nack: NotedNack }>
}

/** `hopeful`: how many of the pending may still reach the goal. */
export function judge(
  revision: Revision,
  goal: Goal,
  clients: ReadonlyArray<Client>,
  isSent: (client: Client, revision: Revision) => boolean
): { readonly reached: Reached; readonly hopeful: number } {
  const sent = clients.filter((client) => isSent(client, revision))
  const applied = sent.filter((client) => isApplied(client, revision))
  const done = new Set<Client>(goal === "sent" ? sent : applied)
  const refusing = clients.filter((client) => !applied.includes(client) && isRefused(client, revision))
  const nacks = refusing.flatMap(({ nack, ref }) => nack === undefined ? [] : [{ client: ref, nack }])
  const pending = clients.filter((client) => !done.has(client) && (goal === "sent" || !refusing.includes(client)))
  const hopeful = pending.filter((client) =>
    goal === "sent" || canSay(client.level, "ack") || !isSent(client, revision)
  )
  return {
    reached: {
      revision,
      sent: sent.length,
      applied: applied.length,
      pending: pending.map((client) => ({
        client: client.ref,
        revision: goal === "sent" ? client.sent : client.applied ?? Revision.make(0)
      })),
      nacks
    },
    hopeful: hopeful.length
  }
}

/** A client acknowledges the places of messages: the last one that it was told, up to this revision, is what counts. */
function isApplied({ applied, told }: Client, revision: Revision): boolean {
  return applied !== undefined && applied >= Math.min(revision, told)
}

/** Whom the change of this revision concerns and who is not connected. */
export function absent(
  state: NetworkState,
  connected: ReadonlyArray<Client>,
  revision: Revision
): ReadonlyArray<ClientRef> {
  const touch = History.at(state.history, revision)
  if (touch === undefined) return []
  const names = new Set(connected.map(({ ref }) => nameOf(ref)))
  return clientsOf(state).filter((ref) => concerns(state, touch, ref) && !names.has(nameOf(ref))).slice(0, 1_000)
}

function clientsOf({ agents, gateways }: NetworkState): ReadonlyArray<ClientRef> {
  return [
    ...BucketMap.values(agents).map(({ id }) => ({ type: "agent" as const, id })),
    ...[...HashMap.keys(gateways)].map((id) => ({ type: "gateway" as const, id }))
  ]
}

/** A later view than the refused one may be one that can be applied: what was refused before does not count. */
function isRefused({ nack, told }: Client, revision: Revision): boolean {
  return nack !== undefined && nack.revision >= Math.min(revision, told)
}
