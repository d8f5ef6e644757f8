/** Validates upgrade requests, and counts the sockets that have not authenticated yet. */
import { Quota, type QuotaLimits } from "#rateLimit/Quota.ts"
import { ClientType } from "#schema/ids.ts"
import { type Level, subprotocols } from "#schema/protocol.ts"
import { Schema } from "effect"
import type { IncomingMessage } from "node:http"

/** Facts of an accepted upgrade request, and the callbacks for the progress of its client. */
export interface Upgrade {
  /** Client type in the URL; undefined if the key decides. */
  readonly type: ClientType | undefined
  readonly level: Level
  readonly address: string
  /** Stops the authentication timeout. */
  authReceived(): void
  /** Releases the slot among the sockets that have not authenticated. */
  authenticated(): void
}

export type Verdict =
  | { readonly _tag: "Accepted"; readonly type: ClientType | undefined; readonly level: Level }
  | { readonly _tag: "Refused"; readonly reason: string }

/** Reads the `type` in the URL and the offered subprotocols. An `apiKey` in the URL is ignored and never logged. */
export const parseUpgrade = (request: Pick<IncomingMessage, "url" | "headers">): Verdict => {
  const level = levelOf(request.headers["sec-websocket-protocol"])
  if (level === undefined) {
    return refused(
      `unknown WebSocket subprotocol: offer ${subprotocols.join(" or ")}, or omit Sec-WebSocket-Protocol`
    )
  }
  const [, query = ""] = (request.url ?? "").split("?", 2)
  const type = query === "" ? null : new URLSearchParams(query).get("type")
  if (type === null) return { _tag: "Accepted", type: undefined, level }
  return isClientType(type)
    ? { _tag: "Accepted", type, level }
    : refused("type must be agent or gateway, or be omitted")
}

/** The first known subprotocol in the server's order (RFC 6455 section 4.2.2), or the plain level if none is offered. */
function levelOf(offered: string | undefined): Level | undefined {
  if (offered === undefined) return "plain"
  const names = new Set(offered.split(",").map((name) => name.trim()))
  return subprotocols.find((name) => names.has(name))
}

const isClientType = Schema.is(ClientType)

function refused(reason: string): Verdict {
  return { _tag: "Refused", reason }
}

/** Sockets that have not authenticated yet: a quota of slots, each with its start time. */
export class PendingConnections<Socket> {
  readonly #quota: Quota
  /** In order of arrival, so that the oldest come first. */
  readonly #slots = new Set<PendingSlot<Socket>>()

  constructor(limits: QuotaLimits) {
    this.#quota = new Quota(limits)
  }

  /** Reserves a slot that starts at this moment; undefined if the quota is used up. */
  reserve(address: string, at: number): PendingSlot<Socket> | undefined {
    const release = this.#quota.tryAcquire(address)
    if (release === undefined) return undefined
    const slot = new PendingSlot<Socket>(at, () => {
      this.#slots.delete(slot)
      release()
    })
    this.#slots.add(slot)
    return slot
  }

  /** Sockets whose slot started before this moment and whose timeout is running. */
  overdue(moment: number): ReadonlyArray<Socket> {
    const sockets: Array<Socket> = []
    for (const { isTimeoutRunning, since, socket } of this.#slots) {
      if (since > moment) break
      if (socket !== undefined && isTimeoutRunning) sockets.push(socket)
    }
    return sockets
  }
}

/** Slot of one socket that has not authenticated yet. */
export class PendingSlot<Socket> {
  readonly since: number
  /** Frees the slot. Calling it again does nothing. */
  readonly release: () => void
  socket: Socket | undefined
  isTimeoutRunning = true

  constructor(since: number, release: () => void) {
    this.since = since
    this.release = release
  }

  attach(socket: Socket): void {
    this.socket = socket
  }

  stopTimeout(): void {
    this.isTimeoutRunning = false
  }
}
