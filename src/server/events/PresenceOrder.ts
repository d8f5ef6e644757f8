/** Which word of a client's presence is news, when several nodes tell of it and their words arrive in any order. */
import { RecentMap } from "#rateLimit/RecentMap.ts"
import type { ControlEvent } from "#schema/events.ts"
import type { RelayedEvent } from "./RelayedEvent.ts"

interface Known {
  readonly at: number
  readonly isOnline: boolean
  readonly session: string
}

/**
 * What was told last of each client's presence. Older words are not told any more: a client that went from one node to another
 * is not offline, although the word of its end comes after that of its beginning. Forgets the clients of long ago.
 */
export class PresenceOrder {
  readonly #lately: RecentMap<Known>

  /** Remembers the latest so many clients, or up to twice as many. */
  constructor(most: number) {
    this.#lately = new RecentMap(Number.POSITIVE_INFINITY, most)
  }

  /** Whether this is to be told; if so, it is from now on what was told last. */
  recordIfNewer({ at, event: { data, event } }: RelayedEvent): boolean {
    if (at === undefined || (event !== "client.online" && event !== "client.offline")) return true
    const name = clientNameOf(data)
    const last = this.#lately.get(name)
    const next = { at, isOnline: event === "client.online", session: data.session }
    if (last !== undefined && !follows(last, next)) return false
    this.#lately.set(name, next, at)
    return true
  }
}

function follows(last: Known, next: Known): boolean {
  if (next.at < last.at && last.at - next.at < latest) return false
  return next.isOnline ? !last.isOnline || next.session !== last.session : last.isOnline
}

/** Nothing is told so late (five minutes, in microseconds): then it is the database's clock that was set back. */
const latest = 300_000_000

type Named = Extract<ControlEvent, { readonly event: "ack" }>["data"]

export const clientNameOf = ({ clientId, clientType }: Pick<Named, "clientId" | "clientType">): string =>
  `${clientType} ${clientId}`
