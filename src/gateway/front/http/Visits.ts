/** Open requests of visitors: decides each one, forwards or answers it, and bounds its time. */
import type { Route } from "#gateway/Route.ts"
import type { Clock, Timer } from "#processes/clock.ts"
import { STATUS_CODES } from "node:http"
import type { AccessLogEntry } from "./accessLog.ts"
import { decideVisit, type DecisionOptions, type VisitorConnection } from "./decideVisit.ts"
import { errorPage, type FrontError, frontErrors, type Page, page } from "./errorPages.ts"
import { Exchange } from "./Exchange.ts"
import type { HttpLimits } from "./limits.ts"
import { readRequestHead, type RequestHead } from "./requestHead.ts"
import { RequestCounts } from "./RequestCounts.ts"
import { ServicePool } from "./ServicePool.ts"
import type { Upgrade } from "./upgrades.ts"
import type { Visit } from "./Visit.ts"
import { VisitRecord } from "./VisitRecord.ts"

export interface VisitsOptions extends DecisionOptions {
  readonly limits: HttpLimits
  readonly clock: Clock
  readonly accessLog: (entry: AccessLogEntry) => void
}

/** A request as its connection has delivered it. */
export interface Arrival {
  readonly connection: VisitorConnection
  readonly target: string
  readonly authority: string | undefined
  readonly rawHeaders: ReadonlyArray<string>
  /** Upgrade of the request, if it asks for one. */
  readonly upgradeOf: (head: RequestHead) => Upgrade | undefined
}

const checkMillis = 1_000

export class Visits {
  readonly #options: VisitsOptions
  readonly #pools = new Map<Route, ServicePool>()
  readonly #open = new Set<VisitRecord>()
  readonly #counts: RequestCounts
  #timer: Timer | undefined
  #isDraining = false
  #onEmpty: (() => void) | undefined

  constructor(options: VisitsOptions) {
    this.#options = options
    this.#counts = new RequestCounts(options.limits)
  }

  get open(): number {
    return this.#open.size
  }

  serve(visit: Visit, arrival: Arrival): void {
    const { connection, target } = arrival
    const record = new VisitRecord(visit, connection, target, this.#options.clock)
    this.#open.add(record)
    const busy = this.#counts.add(connection)
    this.#checkLater()
    visit.handle({
      onDrain: () => record.exchange?.onVisitDrain(),
      onClose: (isComplete) => {
        record.exchange?.onVisitClose(isComplete)
        if (record.exchange?.isUpgraded !== true) this.#end(record)
      }
    })
    const head = readRequestHead({
      version: visit.version,
      method: visit.method,
      target,
      authority: arrival.authority,
      rawHeaders: arrival.rawHeaders,
      isTrusted: connection.isTrusted,
      maxHeaders: this.#options.limits.maxHeaders
    })
    if ("status" in head) return this.#sendError(record, head)
    record.head = head
    if (busy !== undefined) return this.#sendError(record, busy)
    this.#follow(record, head, arrival)
  }

  /** Closes idle connections to the service. Requests of the route that still run after `drainMillis` are cut. */
  retire(route: Route, drainMillis: number): void {
    this.#pools.get(route)?.retire()
    this.#pools.delete(route)
    const running = [...this.#open].filter(({ exchange }) => exchange?.route === route)
    if (running.length === 0) return
    this.#options.clock.after(drainMillis, () => {
      for (const record of running) if (this.#open.has(record)) record.exchange?.cut()
    })
  }

  /** Resolves when no request is open, at the latest after `drainMillis`, when it has cut the rest. */
  async drain(drainMillis: number): Promise<void> {
    this.#isDraining = true
    if (this.#open.size > 0) {
      await new Promise<void>((done) => {
        const timer = this.#options.clock.after(drainMillis, done)
        this.#onEmpty = () => {
          timer.cancel()
          done()
        }
      })
    }
    for (const { exchange } of this.#open) exchange?.cut()
    for (const pool of this.#pools.values()) pool.retire()
    this.#timer?.cancel()
  }

  #follow(record: VisitRecord, head: RequestHead, { connection, upgradeOf }: Arrival): void {
    const decision = decideVisit(head, connection, this.#options)
    switch (decision._tag) {
      case "Reject":
        return this.#sendError(record, decision.error)
      case "Text":
        return this.#sendPage(record, 200, page("text/plain; charset=utf-8", decision.text))
      case "Redirect":
        return this.#sendPage(record, 308, page("text/plain; charset=utf-8", "", ["Location", decision.location]))
      case "Forward": {
        const upgrade = upgradeOf(head)
        if (head.method === "CONNECT" && upgrade === undefined)
          return this.#sendError(record, frontErrors.methodNotAllowed)
        this.#forward(record, { head, visitor: connection, route: decision.route, upgrade })
      }
    }
  }

  #forward(
    record: VisitRecord,
    to: {
      readonly head: RequestHead
      readonly visitor: VisitorConnection
      readonly route: Route
      readonly upgrade: Upgrade | undefined
    }
  ): void {
    record.exchange = new Exchange({
      ...to,
      visit: record.visit,
      counts: record,
      pool: this.#poolOf(to.route),
      limits: this.#options.limits,
      clock: this.#options.clock,
      isDraining: () => this.#isDraining,
      sendError: (error) => this.#sendError(record, error),
      onUpgradedClose: () => this.#end(record)
    })
    record.exchange.start()
  }

  #poolOf(route: Route): ServicePool {
    const known = this.#pools.get(route)
    if (known !== undefined) return known
    const pool = new ServicePool(route, this.#options.limits)
    this.#pools.set(route, pool)
    return pool
  }

  #sendError(record: VisitRecord, error: FrontError): void {
    this.#sendPage(record, error.status, errorPage(error, record.head?.accept), error.close)
  }

  #sendPage(record: VisitRecord, status: number, { body, headers }: Page, close = false): void {
    const { visit } = record
    record.status = status
    visit.sendHead(status, STATUS_CODES[status] ?? "", [...headers], {
      close: close || this.#isDraining,
      mayHaveTrailers: false
    })
    if (visit.method !== "HEAD" && body.length > 0) {
      record.sentBytes += body.length
      visit.write(body)
    }
    visit.end([])
  }

  #end(record: VisitRecord): void {
    if (!this.#open.delete(record)) return
    this.#counts.remove(record.connection)
    this.#options.accessLog(record.entry())
    if (this.#open.size === 0) this.#onEmpty?.()
  }

  #checkLater(): void {
    const { clock } = this.#options
    this.#timer ??= clock.after(checkMillis, () => {
      this.#timer = undefined
      const now = clock.monotonic()
      for (const { exchange } of this.#open) exchange?.checkTime(now)
      if (this.#open.size > 0) this.#checkLater()
    })
  }
}
