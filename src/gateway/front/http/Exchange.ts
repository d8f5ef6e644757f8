/** One request of a visitor on its way to a service, and the response on its way back. */
import type { Route } from "#gateway/Route.ts"
import type { Clock } from "#processes/clock.ts"
import type { ClientRequest, IncomingMessage, InformationEvent } from "node:http"
import type { Duplex } from "node:stream"
import { type FrontError, frontErrors } from "./errorPages.ts"
import { serviceFields, trailerFields, type VisitorFacts, visitorFields } from "./fields.ts"
import { joinUpgraded } from "./joinUpgraded.ts"
import type { HttpLimits } from "./limits.ts"
import type { RequestHead } from "./requestHead.ts"
import { canRetry, serviceFailure } from "./serviceErrors.ts"
import type { ServicePool } from "./ServicePool.ts"
import { type Upgrade, upgradeAnswer, upgradeRequest } from "./upgrades.ts"
import type { Visit, VisitCounts } from "./Visit.ts"

export interface ExchangeOptions {
  readonly visit: Visit
  readonly counts: VisitCounts
  readonly head: RequestHead
  readonly visitor: VisitorFacts
  readonly route: Route
  readonly pool: ServicePool
  readonly upgrade: Upgrade | undefined
  readonly limits: HttpLimits
  readonly clock: Clock
  /** Whether connections end after their responses. */
  readonly isDraining: () => boolean
  /** Answers with a page. */
  readonly sendError: (error: FrontError) => void
  /** An upgraded connection has closed. */
  readonly onUpgradedClose: () => void
}

/** Early hints of one response that are forwarded. */
const maxEarlyHints = 8

export class Exchange {
  readonly route: Route
  /** Whether the connection has changed its protocol, so that it ends by `onUpgradedClose`. */
  isUpgraded = false
  readonly #options: ExchangeOptions
  #phase: "request" | "response" | "upgraded" | "ended" = "request"
  #service: ClientRequest | undefined
  #response: IncomingMessage | undefined
  #streams: ReadonlyArray<Duplex> = []
  #lastActivity: number
  #isBodyBegun = false
  #isBodyEnded: boolean
  #isRetried = false
  #earlyHints = 0

  constructor(options: ExchangeOptions) {
    this.#options = options
    this.route = options.route
    this.#lastActivity = options.clock.monotonic()
    this.#isBodyEnded = options.visit.body === undefined
  }

  start(): void {
    const { head, limits, pool, visit } = this.#options
    if (pool.openRequests >= limits.maxRequestsPerTunnel) return this.#fail(frontErrors.tunnelBusy)
    if ((head.contentLength ?? 0) > limits.maxBodyBytes) return this.#fail(frontErrors.bodyTooLarge)
    pool.openRequests += 1
    this.#send()
    if (visit.body !== undefined && this.#phase === "request") this.#receiveBody(visit.body)
  }

  /** The visitor's side has closed. */
  onVisitClose(isComplete: boolean): void {
    if (this.#phase === "upgraded" || this.#service === undefined) return
    this.#options.pool.openRequests -= 1
    const service = this.#service
    this.#service = undefined
    this.#phase = "ended"
    // A complete exchange leaves its connection to the pool.
    if (!isComplete || !service.writableFinished || this.#response?.complete !== true) service.destroy()
  }

  readonly onVisitDrain = (): void => {
    this.#response?.resume()
  }

  /** Ends the exchange if it is idle for too long. */
  checkTime(now: number): void {
    const { limits } = this.#options
    const idle = now - this.#lastActivity
    if (this.#phase === "request") {
      if (this.#isBodyEnded ? idle < limits.answerMillis : idle < limits.bodyIdleMillis) return
      // A service that does not read the body is as late as one that does not answer.
      const isService = this.#isBodyEnded || this.#service?.writableNeedDrain === true
      this.#fail(isService ? frontErrors.noAnswer : frontErrors.bodyTimeout)
    } else if (idle >= (this.#phase === "upgraded" ? limits.upgradedIdleMillis : limits.idleMillis)) this.cut()
  }

  /** Ends both sides. */
  cut(): void {
    for (const stream of this.#streams) stream.destroy()
    if (this.#phase === "request") this.#fail(frontErrors.noAnswer)
    else if (this.#phase === "response") this.#options.visit.abort()
  }

  #send(): void {
    const { clock, head, pool, upgrade, visit, visitor } = this.#options
    const fields = serviceFields(head, visitor, { upgrade: upgrade?.protocol, hasBody: visit.body !== undefined })
    let service: ClientRequest
    try {
      service = pool.request({
        hostName: head.hostName,
        method: upgrade === undefined ? head.method : "GET",
        path: head.target,
        fields: upgrade === undefined ? fields : upgradeRequest(fields, upgrade)
      })
    } catch {
      pool.openRequests -= 1
      return this.#fail(frontErrors.badRequest)
    }
    this.#service = service
    service.on("response", this.#onResponse).on("error", this.#onError).on("upgrade", this.#onUpgrade)
    service.on("information", this.#onInformation)
    if (visit.body === undefined) return void service.end()
    service.on("drain", () => visit.body?.resume())
    // A body that begins later does not delay the head, because the service can answer first.
    clock.soon(() => {
      if (!this.#isBodyBegun && !service.destroyed) service.write(nothing)
    })
  }

  #receiveBody(body: NonNullable<Visit["body"]>): void {
    const { clock, counts, limits, visit } = this.#options
    body.on("data", (chunk: Buffer) => {
      const service = this.#service
      if (service === undefined || service.destroyed) return
      this.#isBodyBegun = true
      this.#lastActivity = clock.monotonic()
      counts.receivedBytes += chunk.length
      if (counts.receivedBytes > limits.maxBodyBytes) return this.#fail(frontErrors.bodyTooLarge)
      if (!service.write(chunk)) body.pause()
    })
    body.on("end", () => {
      this.#isBodyEnded = true
      this.#isBodyBegun = true
      this.#lastActivity = clock.monotonic()
      const trailers = trailerFields(visit.trailers())
      if (trailers.length > 0) this.#service?.addTrailers(trailers)
      this.#service?.end()
    })
  }

  readonly #onInformation = (information: InformationEvent) => {
    const { visit } = this.#options
    this.#lastActivity = this.#options.clock.monotonic()
    if (information.statusCode === 100) {
      if (this.#options.head.expectsContinue) visit.sendContinue()
    } else if (information.statusCode === 103 && this.#earlyHints < maxEarlyHints) {
      this.#earlyHints += 1
      visit.sendEarlyHints(visitorFields(information.rawHeaders, 103))
    }
  }

  readonly #onResponse = (response: IncomingMessage) => {
    const { clock, counts, head, isDraining, upgrade, visit } = this.#options
    if (this.#phase !== "request") return void this.#service?.destroy()
    if (this.#service?.reusedSocket === false) this.route.report("ok")
    const status = response.statusCode ?? 502
    // An extended CONNECT that gets 200 would be accepted.
    if (upgrade?.isExtendedConnect === true && status < 300) return this.#fail(frontErrors.invalidAnswer)
    this.#lastActivity = clock.monotonic()
    this.#response = response
    // An expected body that was not asked for may or may not follow (RFC 9110, 10.1.1).
    const isUnclear = head.expectsContinue && !this.#isBodyBegun && !this.#isBodyEnded
    const fields = visitorFields(response.rawHeaders, status)
    const mayHaveTrailers = response.headers["transfer-encoding"] !== undefined
    response.on("error", ignore)
    try {
      visit.sendHead(status, response.statusMessage ?? "", fields, {
        close: isUnclear || isDraining(),
        mayHaveTrailers
      })
    } catch {
      return this.#fail(frontErrors.invalidAnswer)
    }
    this.#phase = "response"
    counts.status = status
    response.on("data", (chunk: Buffer) => {
      this.#lastActivity = clock.monotonic()
      counts.sentBytes += chunk.length
      if (!visit.write(chunk)) response.pause()
    })
    response.on("end", () => visit.end(mayHaveTrailers ? trailerFields(response.rawTrailers) : []))
    response.on("close", () => {
      if (!response.complete) visit.abort()
    })
  }

  readonly #onUpgrade = (response: IncomingMessage, service: Duplex, first: Buffer) => {
    const { clock, counts, pool, upgrade, visit } = this.#options
    const fields = this.#phase === "request" && upgrade !== undefined
      ? upgradeAnswer(response, visitorFields(response.rawHeaders, 101), upgrade)
      : undefined
    if (fields === undefined) {
      service.on("error", ignore).destroy()
      return this.#fail(frontErrors.invalidAnswer)
    }
    this.route.report("ok")
    this.#phase = "upgraded"
    this.isUpgraded = true
    counts.status = upgrade?.isExtendedConnect === true ? 200 : 101
    this.#service = undefined
    if (first.length > 0) service.unshift(first)
    const visitor = visit.accept(fields)
    this.#streams = [visitor, service]
    this.#lastActivity = clock.monotonic()
    joinUpgraded(visitor, service, {
      onForth: (bytes) => {
        this.#lastActivity = clock.monotonic()
        counts.receivedBytes += bytes
      },
      onBack: (bytes) => {
        this.#lastActivity = clock.monotonic()
        counts.sentBytes += bytes
      },
      onClose: () => {
        pool.openRequests -= 1
        this.#phase = "ended"
        this.#options.onUpgradedClose()
      }
    })
  }

  readonly #onError = (error: NodeJS.ErrnoException) => {
    const { pool, visit } = this.#options
    const service = this.#service
    if (service === undefined || this.#phase !== "request") return
    const isReused = service.reusedSocket
    if (!this.#isRetried && canRetry(error, { method: visit.method, isReused, isBodyBegun: this.#isBodyBegun })) {
      this.#isRetried = true
      pool.closeIdle()
      return this.#send()
    }
    const { answer, outcome } = serviceFailure(error, isReused)
    if (outcome !== undefined) this.route.report(outcome)
    this.#fail(answer)
  }

  /** Answers for the service, or aborts the response that has begun. */
  #fail(error: FrontError): void {
    const service = this.#service
    this.#phase = "ended"
    if (this.#options.visit.isHeadSent) this.#options.visit.abort()
    else this.#options.sendError(error)
    service?.destroy()
  }
}

/** `flushHeaders` would encode the head as UTF-8. */
const nothing = Buffer.alloc(0)
const ignore = () => {}
