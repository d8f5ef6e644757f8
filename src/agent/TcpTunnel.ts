/** A tunnel for TCP at the agent: passes connections from gateways to the target. */
import type { Clock } from "#processes/clock.ts"
import type { IncomingConnection } from "#wireguard/Device.ts"
import { joinSockets } from "#wireguard/joinSockets.ts"
import type { Socket } from "node:net"
import { type Dialer, dialProblem, type Target } from "./dialTarget.ts"
import type { Quota } from "./Quota.ts"
import { type Status, TargetStatus } from "./TargetStatus.ts"

/** Time for a target to accept a connection. */
const dialTimeoutMillis = 10_000

/** Idle time after which TCP checks that the other end is alive. */
const keepAliveMillis = 60_000

export interface TcpTunnelOptions {
  readonly target: Target
  readonly dialer: Dialer
  readonly quota: Quota
  readonly clock: Clock
  readonly onStatusChange: () => void
}

export class TcpTunnel {
  readonly #options: TcpTunnelOptions
  readonly #status: TargetStatus
  /** Connections to the target, with those that are being opened. */
  readonly #connections = new Set<Socket>()
  #isDraining = false

  constructor(options: TcpTunnelOptions) {
    this.#options = options
    this.#status = new TargetStatus(options.clock, (done) => this.#probe(done), options.onStatusChange)
  }

  get status(): Status {
    return this.#status.current
  }

  get connections(): number {
    return this.#connections.size
  }

  /** Dials the target first, so that the gateway's handshake completes only if the service answers. */
  readonly accept = (incoming: IncomingConnection): void => {
    const { quota } = this.#options
    if (this.#isDraining || !quota.tryAcquire()) return incoming.reject()
    const socket = this.#dial((problem) => {
      this.#status.record(problem)
      if (problem === undefined) return this.#join(incoming, socket)
      quota.release()
      incoming.reject()
    })
  }

  /** Rejects new connections and stops the probes. Running connections continue. */
  drain(): void {
    this.#isDraining = true
    this.#status.close()
  }

  /** Resets the connections. */
  close(): void {
    this.drain()
    for (const socket of this.#connections) socket.resetAndDestroy()
  }

  #join(incoming: IncomingConnection, socket: Socket): void {
    this.#connections.add(socket)
    socket.setKeepAlive(true, keepAliveMillis)
    const visitor = incoming.accept()
    visitor.setKeepAlive(true, keepAliveMillis)
    joinSockets(visitor, socket, () => {
      this.#connections.delete(socket)
      this.#options.quota.release()
    })
  }

  #probe(done: (problem: string | undefined) => void): void {
    const socket = this.#dial((problem) => {
      socket.destroy()
      done(problem)
    })
  }

  /** Calls back once: undefined for an open connection, otherwise the problem. */
  #dial(done: (problem: string | undefined) => void): Socket {
    const { clock, dialer, target } = this.#options
    const socket = dialer.dial(target)
    let isDone = false
    const finish = (problem: string | undefined) => {
      if (isDone) return
      isDone = true
      timer.cancel()
      this.#connections.delete(socket)
      done(problem)
    }
    const timer = clock.after(dialTimeoutMillis, () => {
      finish("the target does not answer")
      socket.destroy()
    })
    this.#connections.add(socket)
    socket.once("connect", () => finish(undefined))
    socket.on("error", (error) => finish(dialProblem(error)))
    socket.once("close", () => finish("the agent closed the connection"))
    return socket
  }
}
