/** The public port of a udp tunnel: one socket for each address, and the sessions of its visitors. */
import type { Route } from "#gateway/Route.ts"
import { createSocket, type Socket } from "node:dgram"
import { isFamilyMissing, ListenError } from "./listen.ts"
import type { LogProblem } from "./problemLog.ts"
import type { PublicPort } from "./PublicPorts.ts"
import type { SessionsOfPort, UdpSessions } from "./UdpSessions.ts"

const receiveBufferBytes = 1024 * 1024

export interface UdpPortOptions {
  readonly sessions: UdpSessions
  /** Addresses to open, as of now. */
  readonly addresses: () => ReadonlyArray<string>
  readonly logProblem: LogProblem
}

export class UdpPort implements PublicPort {
  readonly #port: number
  readonly #options: UdpPortOptions
  readonly #sockets = new Map<string, Socket>()
  readonly #sessions: SessionsOfPort = new Map()
  #route: Route
  #isRefreshing = false
  #isClosed = false

  private constructor(route: Route, options: UdpPortOptions) {
    this.#route = route
    this.#port = route.listenPort ?? 0
    this.#options = options
  }

  /** Opens all addresses, or none: rejects with a `ListenError`. */
  static async open(route: Route, options: UdpPortOptions): Promise<UdpPort> {
    const port = new UdpPort(route, options)
    const addresses = options.addresses()
    const results = await Promise.allSettled(addresses.map((address) => port.#openSocket(address)))
    const failure = results.flatMap((result) => result.status === "rejected" ? [result.reason as ListenError] : [])
      // An address that the machine has just lost or that IPv6 still checks is opened by a later refresh.
      .find((error) => addresses.length === 1 || error.code !== "EADDRNOTAVAIL")
    if (failure === undefined) return port
    port.close()
    throw failure
  }

  /** Sessions continue if the service is the same. */
  setRoute(route: Route): void {
    const isSameService = route.address === this.#route.address && route.port === this.#route.port &&
      route.tunnelId === this.#route.tunnelId
    this.#route = route
    for (const session of this.#sessions.values()) {
      if (isSameService) session.route = route
      else this.#options.sessions.close(session)
    }
  }

  /** Follows the addresses of the machine. */
  async refresh(): Promise<void> {
    if (this.#isRefreshing || this.#isClosed) return
    this.#isRefreshing = true
    const wanted = this.#options.addresses()
    for (const [address, socket] of this.#sockets) {
      if (wanted.includes(address)) continue
      this.#sockets.delete(address)
      for (const session of this.#sessions.values()) {
        if (session.publicSocket === socket) session.publicSocket = undefined
      }
      socket.close()
    }
    const missing = wanted.filter((address) => !this.#sockets.has(address))
    await Promise.all(missing.map((address) =>
      this.#openSocket(address).catch((error: ListenError) => {
        if (error.code !== "EADDRNOTAVAIL") this.#logProblem(error)
      })
    ))
    this.#isRefreshing = false
    this.#replaceSockets()
  }

  close(): void {
    this.#isClosed = true
    for (const session of this.#sessions.values()) this.#options.sessions.close(session)
    for (const socket of this.#sockets.values()) socket.close()
    this.#sockets.clear()
  }

  /** Until the visitor sends again, answers leave from another address instead of the closed one. */
  #replaceSockets(): void {
    for (const session of this.#sessions.values()) {
      const isIpv6 = session.address.includes(":")
      session.publicSocket ??= [...this.#sockets].find(([address]) => address.includes(":") === isIpv6)?.[1]
    }
  }

  async #openSocket(address: string): Promise<void> {
    const socket = await bind(address, this.#port).catch((error: NodeJS.ErrnoException) => {
      if (isFamilyMissing(error, address, this.#options.addresses())) return undefined
      throw new ListenError(address, this.#port, error)
    })
    if (socket === undefined) return
    if (this.#isClosed) return void socket.close()
    this.#sockets.set(address, socket)
    socket.on(
      "message",
      (datagram, from) => this.#options.sessions.receive(this.#sessions, this.#route, socket, datagram, from)
    )
    socket.on("error", (error) => this.#logProblem(error))
  }

  #logProblem({ message }: Error): void {
    this.#options.logProblem(`udp ${this.#port}`, `UDP port ${this.#port}: ${message}`)
  }
}

function bind(address: string, port: number): Promise<Socket> {
  const { promise, reject, resolve } = Promise.withResolvers<Socket>()
  const family = address.includes(":") ? 6 : 4
  const socket = createSocket({
    type: family === 6 ? "udp6" : "udp4",
    ipv6Only: family === 6,
    recvBufferSize: receiveBufferBytes,
    // Visitors are addresses already. Node's own lookup would cost a turn of the event loop for each datagram.
    lookup: (host, _options, callback) => callback(null, host, family)
  })
  socket.once("error", (error) => {
    socket.close()
    reject(error)
  })
  socket.bind({ address, port, exclusive: true }, () => {
    socket.removeAllListeners("error")
    resolve(socket)
  })
  return promise
}
