/** Facts about one visit while it is open, and its entry in the access log. */
import type { Clock } from "#processes/clock.ts"
import { isIP } from "node:net"
import { type AccessLogEntry, withoutQuery } from "./accessLog.ts"
import type { VisitorConnection } from "./decideVisit.ts"
import type { Exchange } from "./Exchange.ts"
import type { RequestHead } from "./requestHead.ts"
import type { Visit } from "./Visit.ts"

export class VisitRecord {
  readonly visit: Visit
  readonly connection: VisitorConnection
  /** Undefined if the gateway answers itself. */
  exchange: Exchange | undefined
  head: RequestHead | undefined
  /** 0 until the head of the response is sent. */
  status = 0
  receivedBytes = 0
  sentBytes = 0
  readonly #target: string
  readonly #clock: Clock
  readonly #begin: number

  constructor(visit: Visit, connection: VisitorConnection, target: string, clock: Clock) {
    this.visit = visit
    this.connection = connection
    this.#target = target
    this.#clock = clock
    this.#begin = clock.monotonic()
  }

  entry(): AccessLogEntry {
    const { exchange, head, receivedBytes, sentBytes, status, visit } = this
    return {
      time: this.#clock.wall(),
      visitor: lastAddress(head?.given.forwardedFor) ?? this.connection.address,
      host: head?.hostName ?? "",
      method: head?.method ?? visit.method,
      path: withoutQuery(head?.target ?? this.#target),
      protocol: visit.version,
      status: status === 0 ? 499 : status,
      receivedBytes,
      sentBytes,
      durationMillis: this.#clock.monotonic() - this.#begin,
      tunnelId: exchange?.route.tunnelId,
      referer: head?.referer === undefined ? undefined : withoutQuery(head.referer),
      userAgent: head?.userAgent
    }
  }
}

/** The address that the trusted proxy itself has added; undefined if it is not one. */
function lastAddress(forwardedFor = ""): string | undefined {
  const last = forwardedFor.slice(forwardedFor.lastIndexOf(",") + 1).trim()
  return isIP(last) === 0 ? undefined : last
}
