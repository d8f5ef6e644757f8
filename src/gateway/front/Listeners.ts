/** The gateway's public ports: HTTP, HTTPS, and those of tcp and udp tunnels. */
import type { Route, Routes } from "#gateway/Route.ts"
import type { Clock, Timer } from "#processes/clock.ts"
import type { TcpEnds } from "#proxyProtocol/TcpEnds.ts"
import type { Device } from "#wireguard/Device.ts"
import type { Server, Socket } from "node:net"
import { ConnectionLimits, type ConnectionLimitSettings, type RefusedConnections } from "./ConnectionLimits.ts"
import { ignoreErrors } from "./endSocket.ts"
import { ListenError, listenOnAll, type ListenOptions, listenRemedy, portOf } from "./listen.ts"
import { localAddresses, udpAddresses } from "./localAddresses.ts"
import type { PipedBytes } from "./Pipe.ts"
import { Pipes } from "./Pipes.ts"
import { type LogProblem, problemLog } from "./problemLog.ts"
import { ProxyEntry } from "./ProxyEntry.ts"
import { type PublicPort, PublicPorts } from "./PublicPorts.ts"
import { TlsEntry, type TlsRejections } from "./TlsEntry.ts"
import { UdpPort } from "./UdpPort.ts"
import { type UdpCounts, UdpSessions, type UdpSettings } from "./UdpSessions.ts"
import { endsOf } from "./visitors.ts"

/** Bounds of connections and sessions, and times in milliseconds. */
export interface FrontLimits extends ConnectionLimitSettings, UdpSettings {
  /** Time in which a visitor of the HTTPS port must send its ClientHello, and a trusted proxy its PROXY header. */
  readonly helloMillis: number
  /** Time without a byte in either direction after which a tls or tcp connection is reset. */
  readonly idleMillis: number
  /** Time between attempts to open a port of a tunnel that is in use. */
  readonly portRetryMillis: number
}

export const defaultLimits: FrontLimits = {
  maxConnections: 16_384,
  maxConnectionsPerVisitor: 1_024,
  maxConnectionsPerTunnel: 8_192,
  helloMillis: 10_000,
  idleMillis: 3_600_000,
  portRetryMillis: 5_000,
  maxUdpSessions: 16_384,
  maxUdpSessionsPerVisitor: 256,
  maxUdpSessionsPerTunnel: 4_096,
  udpIdleMillis: 60_000
}

/** Serves HTTP. Each socket is open and has an `error` listener; its first bytes can wait in its buffer. */
export interface HttpFront {
  /** A connection to the HTTP port, for `http.Server.emit("connection", socket)`. */
  readonly serveHttp: (socket: Socket) => void
  /** A connection whose ClientHello names an http route, for `tls.Server.emit("connection", socket)`. */
  readonly serveTls: (socket: Socket) => void
}

export interface ListenersOptions {
  /** Addresses of all public ports. `0.0.0.0` and `::` are every address of their family. */
  readonly bind: ReadonlyArray<string>
  /** 0 chooses a free port. */
  readonly httpPort: number
  readonly httpsPort: number
  readonly routes: Routes
  readonly httpFront: HttpFront
  readonly udp: Pick<Device, "bindUdp">
  readonly limits?: Partial<FrontLimits>
  readonly clock: Clock
  readonly trustedProxies: (address: string) => boolean
  /** Whether trusted proxies send a PROXY header on every connection. */
  readonly proxyProtocolIn: boolean
  /** Receives a sentence for the operator, at most one each minute of each kind. */
  readonly onProblem: (message: string) => void
  /** Called when a retry has changed the result of `setPortRoutes`. */
  readonly onPortProblems?: (problems: ReadonlyMap<string, string>) => void
  /** Addresses of this machine. Default: those of its interfaces. */
  readonly localAddresses?: () => ReadonlyArray<string>
}

/** Numbers for metrics: open ones, and counts since the start. */
export interface FrontCounts {
  readonly openConnections: number
  readonly openPipes: number
  readonly openPorts: number
  readonly pipedBytes: Readonly<PipedBytes>
  readonly refusedConnections: Readonly<RefusedConnections>
  readonly tlsRejections: Readonly<TlsRejections>
  /** Connections of trusted proxies without a valid PROXY header. */
  readonly proxyRejections: number
  readonly udpSessions: number
  readonly udp: Readonly<UdpCounts>
}

/** Interval in which UDP ports follow the addresses of the machine. */
const addressRefreshMillis = 5_000

export class Listeners {
  readonly #options: ListenersOptions
  readonly #logProblem: LogProblem
  readonly #connections: ConnectionLimits
  readonly #pipes: Pipes
  readonly #proxyEntry: ProxyEntry
  readonly #tlsEntry: TlsEntry
  readonly #udpSessions: UdpSessions
  readonly #udpPorts = new Set<UdpPort>()
  readonly #ports: PublicPorts
  #httpServers: ReadonlyArray<Server> = []
  #httpsServers: ReadonlyArray<Server> = []
  #refreshTimer: Timer | undefined

  constructor(options: ListenersOptions) {
    const { clock, httpFront, onPortProblems = () => {}, onProblem, routes, udp } = options
    const limits = { ...defaultLimits, ...options.limits }
    this.#options = options
    this.#logProblem = problemLog(clock, onProblem)
    this.#proxyEntry = new ProxyEntry({ clock, headerMillis: limits.helloMillis, logProblem: this.#logProblem })
    this.#connections = new ConnectionLimits(limits)
    this.#pipes = new Pipes({ clock, idleMillis: limits.idleMillis, limits: this.#connections })
    this.#tlsEntry = new TlsEntry({
      clock,
      helloMillis: limits.helloMillis,
      routes,
      pipes: this.#pipes,
      serveTls: (socket) => httpFront.serveTls(socket)
    })
    this.#udpSessions = new UdpSessions({ clock, settings: limits, udp, logProblem: this.#logProblem })
    this.#ports = new PublicPorts({
      clock,
      retryMillis: limits.portRetryMillis,
      open: (route) => route.protocol === "udp" ? this.#openUdp(route) : this.#openTcp(route),
      onPortProblems
    })
  }

  get httpPort(): number {
    return this.#httpServers[0] === undefined ? 0 : portOf(this.#httpServers[0])
  }

  get httpsPort(): number {
    return this.#httpsServers[0] === undefined ? 0 : portOf(this.#httpsServers[0])
  }

  get counts(): FrontCounts {
    return {
      openConnections: this.#connections.open,
      openPipes: this.#pipes.open,
      openPorts: this.#ports.openPorts,
      pipedBytes: this.#pipes.bytes,
      refusedConnections: this.#connections.refused,
      tlsRejections: this.#tlsEntry.rejections,
      proxyRejections: this.#proxyEntry.rejected,
      udpSessions: this.#udpSessions.open,
      udp: this.#udpSessions.counts
    }
  }

  /** Opens the HTTP and the HTTPS port. Rejects with a sentence that names the address, the port and the remedy. */
  async start(): Promise<void> {
    const { httpFront, httpPort, httpsPort } = this.#options
    this.#httpServers = await this.#listen(httpPort, "--http-port", (socket) => {
      httpFront.serveHttp(socket)
      // The bytes after a PROXY header wait in a paused socket.
      if (socket.isPaused()) socket.resume()
    })
    try {
      this.#httpsServers = await this.#listen(
        httpsPort,
        "--https-port",
        (socket, ends) => this.#tlsEntry.accept(socket, ends)
      )
    } catch (error) {
      await this.close(0)
      throw error
    }
    this.#refreshLater()
  }

  /**
   * Opens and closes public ports, so that exactly those of the tcp and udp routes are open. Open connections continue.
   * Returns the reason by tunnelId for each port that cannot be opened, which is tried again later.
   */
  setPortRoutes(routes: ReadonlyArray<Route>): Promise<ReadonlyMap<string, string>> {
    return this.#ports.set(routes)
  }

  /** The largest packet inside the tunnels in bytes, 1280 by default. Larger datagrams of visitors are dropped and counted. */
  setTunnelMtu(mtu: number): void {
    this.#udpSessions.setTunnelMtu(mtu)
  }

  /** Resets the tls and tcp connections of a route that are still open after `drainMillis`. */
  retire(route: Route, drainMillis: number): void {
    this.#pipes.retire(route, drainMillis)
  }

  /**
   * Closes all ports and UDP sessions, and resets the tls and tcp connections that are still open after `drainMillis`.
   * Connections that the HTTP front serves are its own to end.
   */
  async close(drainMillis: number): Promise<void> {
    this.#refreshTimer?.cancel()
    for (const server of [...this.#httpServers, ...this.#httpsServers]) server.close()
    this.#ports.close()
    this.#proxyEntry.close()
    this.#tlsEntry.close()
    await this.#pipes.drain(drainMillis)
  }

  async #listen(
    port: number,
    option: string,
    serve: (socket: Socket, ends: TcpEnds) => void
  ): Promise<ReadonlyArray<Server>> {
    try {
      return await listenOnAll(this.#options.bind, { port, ...this.#handlers(port, serve) })
    } catch (error) {
      if (error instanceof ListenError)
        throw new Error(`${error.message}; ${listenRemedy(error, option)}`, { cause: error })
      throw error
    }
  }

  async #openTcp(route: Route): Promise<PublicPort> {
    let current = route
    const port = route.listenPort ?? 0
    const servers = await listenOnAll(this.#options.bind, {
      port,
      ...this.#handlers(port, (socket, ends) => this.#pipes.connect(socket, current, ends))
    })
    return {
      setRoute: (next) => void (current = next),
      close: () => servers.forEach((server) => server.close())
    }
  }

  async #openUdp(route: Route): Promise<PublicPort> {
    const { bind, localAddresses: addresses = localAddresses } = this.#options
    const port = await UdpPort.open(route, {
      sessions: this.#udpSessions,
      addresses: () => udpAddresses(bind, addresses()),
      logProblem: this.#logProblem
    })
    this.#udpPorts.add(port)
    return {
      setRoute: (next) => port.setRoute(next),
      close: () => {
        this.#udpPorts.delete(port)
        port.close()
      }
    }
  }

  #handlers(port: number, serve: (socket: Socket, ends: TcpEnds) => void): Omit<ListenOptions, "port"> {
    return {
      onConnection: (socket) => this.#accept(socket, serve),
      onError: (error) => this.#logProblem(`tcp ${port}`, `cannot accept connections to port ${port}: ${error.message}`)
    }
  }

  /** Counts the connection until it closes, or resets it if there are too many. */
  #accept(socket: Socket, serve: (socket: Socket, ends: TcpEnds) => void): void {
    ignoreErrors(socket)
    const ends = endsOf(socket)
    if (ends === undefined) return void socket.destroy()
    if (!this.#connections.tryAdd()) return void socket.resetAndDestroy()
    socket.once("close", () => this.#connections.remove())
    const { proxyProtocolIn, trustedProxies } = this.#options
    if (!proxyProtocolIn || !trustedProxies(ends.source.address)) return this.#serveVisitor(socket, ends, serve)
    this.#proxyEntry.accept(socket, ends, (visitor) => this.#serveVisitor(socket, visitor, serve))
  }

  /** One proxy can use all connections, because it forwards those of many visitors. */
  #serveVisitor(socket: Socket, ends: TcpEnds, serve: (socket: Socket, ends: TcpEnds) => void): void {
    const { address } = ends.source
    if (!this.#options.trustedProxies(address)) {
      const holder = this.#connections.tryAddVisitor(address)
      if (holder === undefined) return void socket.resetAndDestroy()
      socket.once("close", () => this.#connections.removeVisitor(holder))
    }
    serve(socket, ends)
  }

  #refreshLater(): void {
    this.#refreshTimer = this.#options.clock.after(addressRefreshMillis, () => {
      for (const port of this.#udpPorts) void port.refresh()
      this.#refreshLater()
    })
  }
}
