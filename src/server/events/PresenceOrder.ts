/** Orders the presence events of each client that several nodes report. */
import { RecentMap } from "#rateLimit/RecentMap.ts"
import type { ControlEvent } from "#schema/events.ts"
import type { RelayedEvent } from "./RelayedEvent.ts"

interface PresenceRecord {
  /** Microseconds of the database's clock. */
  readonly at: number
  readonly isOnline: boolean
  readonly session: string
}

/**
 * Keeps the last presence event of each client and rejects older ones. A client that moved from one node to another is online,
 * although the event of its old session's end may arrive last. Events of clients that were not seen for long are forgotten.
 */
export class PresenceOrder {
  readonly #lastByClient: RecentMap<PresenceRecord>

  /** Keeps between `maxClients` and twice as many clients. */
  constructor(maxClients: number) {
    this.#lastByClient = new RecentMap(Number.POSITIVE_INFINITY, maxClients)
  }

  /** Records a presence event if it is newer than the last one of its client. Returns whether the event is to be published. */
  recordIfNewer({ at, event: { data, event } }: RelayedEvent): boolean {
    if (at === undefined || (event !== "client.online" && event !== "client.offline")) return true
    const name = clientNameOf(data)
    const last = this.#lastByClient.get(name)
    const next = { at, isOnline: event === "client.online", session: data.session }
    if (last !== undefined && !follows(last, next)) return false
    this.#lastByClient.set(name, next, at)
    return true
  }
}

function follows(last: PresenceRecord, next: PresenceRecord): boolean {
  if (next.at < last.at && last.at - next.at < maxDelayMicros) return false
  return next.isOnline ? !last.isOnline || next.session !== last.session : last.isOnline
}

/** 5 minutes. No event is delayed that long, so that a greater difference means that the database's clock was set back. */
const maxDelayMicros = 300_000_000

type ClientData = Extract<ControlEvent, { readonly event: "ack" }>["data"]

export const clientNameOf = ({ clientId, clientType }: Pick<ClientData, "clientId" | "clientType">): string =>
  `${clientType} ${clientId}`
