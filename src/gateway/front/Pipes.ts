/** The open pipes of tls and tcp tunnels, by their route. */
import type { Route } from "#gateway/Route.ts"
import { encodeHeader } from "#proxyProtocol/encodeHeader.ts"
import type { Clock } from "#processes/clock.ts"
import type { TcpEnds } from "#proxyProtocol/TcpEnds.ts"
import type { Socket } from "node:net"
import type { ConnectionLimits } from "./ConnectionLimits.ts"
import { endWith } from "./endSocket.ts"
import { Pipe, type PipedBytes } from "./Pipe.ts"
import { fatalAlert } from "./tlsAlert.ts"

export interface PipesOptions {
  readonly clock: Clock
  readonly idleMillis: number
  readonly limits: ConnectionLimits
}

export class Pipes {
  readonly bytes: PipedBytes = { fromVisitors: 0, toVisitors: 0 }
  readonly #options: PipesOptions
  readonly #byRoute = new Map<Route, Set<Pipe>>()
  #open = 0
  #onDrained: (() => void) | undefined

  constructor(options: PipesOptions) {
    this.#options = options
  }

  get open(): number {
    return this.#open
  }

  /** Connects the visitor to the service. Resets the visitor if the tunnel has too many connections. */
  connect(socket: Socket, route: Route, ends: TcpEnds): void {
    const { clock, idleMillis, limits } = this.#options
    if (!limits.tryAddToTunnel(route.tunnelId)) return void socket.resetAndDestroy()
    this.#open += 1
    const ofRoute = this.#pipesOf(route)
    const { proxyProtocol } = route
    const pipe = new Pipe(socket, route, {
      clock,
      idleMillis,
      header: proxyProtocol === "none" ? undefined : encodeHeader(proxyProtocol, ends),
      bytes: this.bytes,
      onUnreachable: () => {
        if (route.protocol === "tls") endWith(socket, fatalAlert("internal_error"), clock)
        else socket.resetAndDestroy()
      },
      onClose: () => {
        ofRoute.delete(pipe)
        if (ofRoute.size === 0) this.#byRoute.delete(route)
        limits.removeFromTunnel(route.tunnelId)
        this.#open -= 1
        if (this.#open === 0) this.#onDrained?.()
      }
    })
    ofRoute.add(pipe)
  }

  /** Resets the pipes of a route that are still open after `drainMillis`. */
  retire(route: Route, drainMillis: number): void {
    const pipes = this.#byRoute.get(route)
    if (pipes === undefined) return
    if (drainMillis > 0) this.#options.clock.after(drainMillis, () => resetAll(pipes))
    else resetAll(pipes)
  }

  /** Resolves when all pipes have closed. Resets those that are still open after `drainMillis`. */
  async drain(drainMillis: number): Promise<void> {
    if (this.#open === 0) return
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#onDrained = resolve
    const resetRest = () => this.#byRoute.forEach(resetAll)
    const timer = drainMillis > 0 ? this.#options.clock.after(drainMillis, resetRest) : undefined
    if (timer === undefined) resetRest()
    await promise
    timer?.cancel()
  }

  #pipesOf(route: Route): Set<Pipe> {
    const existing = this.#byRoute.get(route)
    if (existing !== undefined) return existing
    const pipes = new Set<Pipe>()
    this.#byRoute.set(route, pipes)
    return pipes
  }
}

function resetAll(pipes: ReadonlySet<Pipe>): void {
  for (const pipe of pipes) pipe.reset()
}
