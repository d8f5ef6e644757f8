/** A visitor's TCP connection, copied byte for byte to and from a service behind a tunnel. */
import { type Route, routeProblem } from "#gateway/Route.ts"
import type { Clock, Timer } from "#processes/clock.ts"
import type { TunnelSocket } from "#wireguard/Device.ts"
import { joinSockets } from "#wireguard/joinSockets.ts"
import type { Socket } from "node:net"

/** Bytes that all pipes have copied. */
export interface PipedBytes {
  fromVisitors: number
  toVisitors: number
}

export interface PipeOptions {
  readonly clock: Clock
  /** Time without a byte in either direction after which both connections are reset. */
  readonly idleMillis: number
  /** Bytes for the service before those of the visitor. */
  readonly header: Buffer | undefined
  readonly bytes: PipedBytes
  /** Answers and closes the visitor's open socket if the service cannot be reached. */
  readonly onUnreachable: () => void
  /** Called once, when the pipe has ended. */
  readonly onClose: () => void
}

/** An established connection that stays open this long without a byte counts as accepted by the service. */
const acceptedMillis = 1_000
const keepAliveMillis = 60_000

/** The visitor's socket must have an `error` listener, and be paused or without a reader. */
export class Pipe {
  readonly #visitor: Socket
  readonly #service: TunnelSocket
  readonly #route: Route
  readonly #options: PipeOptions
  #idleTimer: Timer | undefined
  #acceptedTimer: Timer | undefined
  #lastActivity = 0
  /** Whether the outcome has been reported to the route. */
  #isReported = false

  constructor(visitor: Socket, route: Route, options: PipeOptions) {
    this.#visitor = visitor
    this.#route = route
    this.#options = options
    this.#service = route.connect()
    this.#service.once("connect", this.#onConnect).on("error", this.#onError).once("close", this.#onClose)
    visitor.once("close", this.#onVisitorGone)
    // A socket that has closed already does not emit the event.
    if (visitor.destroyed) this.#onVisitorGone()
  }

  /** Resets both connections. */
  reset(): void {
    // `resetAndDestroy` of a connecting socket would wait until it is connected.
    if (this.#service.connecting) this.#service.destroy()
    else this.#service.resetAndDestroy()
    this.#visitor.resetAndDestroy()
  }

  readonly #onVisitorGone = () => void this.#service.destroy()

  readonly #onConnect = () => {
    const { bytes, clock, header, idleMillis } = this.#options
    const visitor = this.#visitor.off("close", this.#onVisitorGone)
    const service = this.#service.off("close", this.#onClose).setNoDelay(true).setKeepAlive(true, keepAliveMillis)
    this.#acceptedTimer = clock.after(acceptedMillis, this.#reportOk)
    this.#idleTimer = clock.after(idleMillis, this.#onIdleTimer)
    this.#lastActivity = clock.monotonic()
    if (header !== undefined) service.write(header)
    service.once("data", this.#reportOk).once("end", this.#reportOk)
    visitor.on("data", ({ length }: Buffer) => {
      bytes.fromVisitors += length
      this.#lastActivity = clock.monotonic()
    })
    service.on("data", ({ length }: Buffer) => {
      bytes.toVisitors += length
      this.#lastActivity = clock.monotonic()
    })
    joinSockets(visitor, service, this.#onClose)
  }

  readonly #reportOk = () => {
    this.#acceptedTimer?.cancel()
    if (this.#isReported) return
    this.#isReported = true
    this.#route.report("ok")
  }

  /** A reset before the first byte is the answer of an agent whose target rejected the connection. */
  readonly #onError = (error: NodeJS.ErrnoException) => {
    if (this.#isReported) return
    this.#isReported = true
    this.#route.report(routeProblem(error))
    if (this.#acceptedTimer === undefined && !this.#visitor.destroyed) this.#options.onUnreachable()
  }

  readonly #onClose = () => {
    this.#idleTimer?.cancel()
    this.#acceptedTimer?.cancel()
    this.#visitor.off("close", this.#onVisitorGone)
    this.#options.onClose()
  }

  readonly #onIdleTimer = () => {
    const { clock, idleMillis } = this.#options
    const left = this.#lastActivity + idleMillis - clock.monotonic()
    if (left <= 0) this.reset()
    else this.#idleTimer = clock.after(left, this.#onIdleTimer)
  }
}
