/** Which upgrade requests are let in, decided from the request alone. Pure but for the counting of who is waiting. */
import { ClientType } from "#schema/ids.ts"
import { Schema } from "effect"
import type { IncomingMessage } from "node:http"

export type Verdict =
  | { readonly _tag: "Accepted"; readonly type: ClientType | undefined }
  | {
    readonly _tag: "Refused"
    readonly status: "400 Bad Request" | "503 Service Unavailable"
    readonly reason: string
  }

/** The `type` in the URL and the subprotocols that are offered decide; an `apiKey` in the URL is neither used nor told to anyone. */
export const judgeRequest = (request: Pick<IncomingMessage, "url" | "headers">): Verdict => {
  const offered = request.headers["sec-websocket-protocol"]
  if (offered !== undefined) {
    return refused("no WebSocket subprotocol is supported: leave out Sec-WebSocket-Protocol")
  }
  const url = URL.parse(request.url ?? "/", "ws://localhost")
  const given = url?.searchParams.get("type") ?? undefined
  if (given === undefined) return { _tag: "Accepted", type: undefined }
  return isClientType(given) ? { _tag: "Accepted", type: given } : refused("type must be agent or gateway, or left out")
}

const isClientType = Schema.is(ClientType)

function refused(reason: string): Verdict {
  return { _tag: "Refused", status: "400 Bad Request", reason }
}

/** Counts the sockets that have not authenticated yet, in all and by address. */
export class WaitingRoom {
  readonly #limit: number
  readonly #limitPerAddress: number
  readonly #byAddress = new Map<string, number>()
  #all = 0

  constructor(limit: number, limitPerAddress: number) {
    this.#limit = limit
    this.#limitPerAddress = limitPerAddress
  }

  /** Takes a place and gives the function that leaves it, or nothing when there is none. */
  enter(address: string): (() => void) | undefined {
    const here = this.#byAddress.get(address) ?? 0
    if (this.#all >= this.#limit || here >= this.#limitPerAddress) return undefined
    this.#all += 1
    this.#byAddress.set(address, here + 1)
    let inside = true
    return () => {
      if (!inside) return
      inside = false
      this.#all -= 1
      const left = (this.#byAddress.get(address) ?? 1) - 1
      if (left === 0) this.#byAddress.delete(address)
      else this.#byAddress.set(address, left)
    }
  }
}

/** The peer's address; IPv4 in its own form also where the socket is an IPv6 one. */
export const addressOf = (request: IncomingMessage): string =>
  (request.socket.remoteAddress ?? "unknown").replace(/^::ffff:(?=\d+\.)/u, "")
