/** Which upgrade requests are let in, decided from the request alone. Pure but for the counting of who is waiting. */
import { Quota } from "#rateLimit/Quota.ts"
import { ClientType } from "#schema/ids.ts"
import { type Level, subprotocols } from "#schema/protocol.ts"
import { Schema } from "effect"
import type { IncomingMessage } from "node:http"

/** What an upgrade request told, and whom to tell how far its client has come. */
export interface Upgrade {
  /** The client type that the URL names; without it the key decides. */
  readonly type: ClientType | undefined
  readonly level: Level
  readonly address: string
  /** `auth` has come: its time no longer runs. */
  heard(): void
  /** The client has authenticated: it takes no place among those who have not. */
  admitted(): void
}

export type Verdict =
  | { readonly _tag: "Accepted"; readonly type: ClientType | undefined; readonly level: Level }
  | { readonly _tag: "Refused"; readonly reason: string }

/** The `type` in the URL and the subprotocols that are offered decide; an `apiKey` in the URL is neither used nor told to anyone. */
export const judgeRequest = (request: Pick<IncomingMessage, "url" | "headers">): Verdict => {
  const level = levelOf(request.headers["sec-websocket-protocol"])
  if (level === undefined) {
    return refused(
      `unknown WebSocket subprotocol: offer ${subprotocols.join(" or ")}, or leave out Sec-WebSocket-Protocol`
    )
  }
  const [, query = ""] = (request.url ?? "").split("?", 2)
  const given = query === "" ? null : new URLSearchParams(query).get("type")
  if (given === null) return { _tag: "Accepted", type: undefined, level }
  return isClientType(given)
    ? { _tag: "Accepted", type: given, level }
    : refused("type must be agent or gateway, or left out")
}

/** The first of ours that is offered (RFC 6455 section 4.2.2); where nothing is offered, the plain level. */
function levelOf(offered: string | undefined): Level | undefined {
  if (offered === undefined) return "plain"
  const names = new Set(offered.split(",").map((name) => name.trim()))
  return subprotocols.find((name) => names.has(name))
}

const isClientType = Schema.is(ClientType)

function refused(reason: string): Verdict {
  return { _tag: "Refused", reason }
}

/** The sockets that have not authenticated yet: so many places, and each with the time at which it was taken. */
export class PendingConnections<Guest> {
  readonly #free: Quota
  /** In the order of coming, so that whose time is over stands first. */
  readonly #places = new Set<PendingSlot<Guest>>()

  constructor(limit: number, limitPerAddress: number) {
    this.#free = new Quota(limit, limitPerAddress)
  }

  /** A place from this moment on, or nothing when there is none. */
  enter(from: string, at: number): PendingSlot<Guest> | undefined {
    const leave = this.#free.take(from)
    if (leave === undefined) return undefined
    const place = new PendingSlot<Guest>(at, () => {
      this.#places.delete(place)
      leave()
    })
    this.#places.add(place)
    return place
  }

  /** Who came before this moment and whose clock still runs. */
  overdue(moment: number): ReadonlyArray<Guest> {
    const guests: Array<Guest> = []
    for (const place of this.#places) {
      if (place.since > moment) break
      if (place.guest !== undefined && place.isClockRunning) guests.push(place.guest)
    }
    return guests
  }
}

/** One guest's place in the waiting room. */
export class PendingSlot<Guest> {
  readonly since: number
  readonly leave: () => void
  guest: Guest | undefined
  isClockRunning = true

  constructor(since: number, leave: () => void) {
    this.since = since
    this.leave = leave
  }

  seat(guest: Guest): void {
    this.guest = guest
  }

  stopClock(): void {
    this.isClockRunning = false
  }
}
