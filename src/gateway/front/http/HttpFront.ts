/** HTTP part of the gateway's front: HTTP/1 and HTTP/2 from visitors, HTTP/1.1 through the tunnels. */
import { visitorOf } from "#gateway/front/visitors.ts"
import type { Route, Routes } from "#gateway/Route.ts"
import type { Clock, Timer } from "#processes/clock.ts"
import { randomBytes } from "node:crypto"
import type { IncomingMessage, ServerResponse } from "node:http"
import type { ServerHttp2Session, ServerHttp2Stream } from "node:http2"
import type { Socket } from "node:net"
import type { Duplex } from "node:stream"
import type { SecureContext, TLSSocket } from "node:tls"
import type { AccessLogEntry } from "./accessLog.ts"
import type { VisitorConnection } from "./decideVisit.ts"
import { Http1Visit } from "./Http1Visit.ts"
import { Http2Visit } from "./Http2Visit.ts"
import { createHttpServers, type HttpServers } from "./HttpServers.ts"
import { defaultHttpLimits, type HttpLimits } from "./limits.ts"
import { PipelinedRequests } from "./PipelinedRequests.ts"
import { http1Upgrade } from "./upgrades.ts"
import type { Visit } from "./Visit.ts"
import { type Arrival, Visits } from "./Visits.ts"

export interface HttpFrontOptions {
  readonly routes: Routes
  /** Newest certificate for a name (exact or wildcard), as a cached context; undefined if there is none. */
  readonly secureContext: (serverName: string) => SecureContext | undefined
  /** Limits that differ from `defaultHttpLimits`. */
  readonly limits: Partial<HttpLimits>
  /** Port in redirects to https. */
  readonly publicHttpsPort: number
  /** Whether the forwarding fields from this address are believed. */
  readonly trustedProxies: (address: string) => boolean
  readonly accessLog: (entry: AccessLogEntry) => void
  readonly clock: Clock
  /** Answer to `/.well-known/acme-challenge/…` on the HTTP port, before any redirect. */
  readonly acme: (hostName: string, path: string) => string | undefined
  /** `Sec-WebSocket-Key` for WebSockets over HTTP/2: 16 bytes in base64. */
  readonly webSocketKey?: () => string
}

interface SessionState {
  openStreams: number
  idleSince: number
}

const checkMillis = 1_000

export class HttpFront {
  readonly #options: HttpFrontOptions
  readonly #limits: HttpLimits
  readonly #servers: HttpServers
  readonly #visits: Visits
  readonly #pipelined: PipelinedRequests
  readonly #sockets = new Set<Socket>()
  readonly #sessions = new Map<ServerHttp2Session, SessionState>()
  readonly #connections = new WeakMap<object, VisitorConnection>()
  #timer: Timer | undefined
  #isDraining = false

  constructor(options: HttpFrontOptions) {
    this.#options = options
    this.#limits = { ...defaultHttpLimits, ...options.limits }
    this.#pipelined = new PipelinedRequests(this.#limits.maxStreams)
    this.#visits = new Visits({ ...options, limits: this.#limits })
    this.#servers = createHttpServers({
      limits: this.#limits,
      clock: options.clock,
      secureContext: options.secureContext,
      onSecure: (socket) => this.#connections.set(socket, this.#secureConnection(socket)),
      onRequest: this.#onRequest,
      onUpgrade: this.#onUpgrade,
      onSession: this.#onSession,
      onStream: this.#onStream,
      onBadRequest: (socket, error) => this.#logBadRequest(socket, error.status)
    })
  }

  /** Requests that are not answered completely, and upgraded connections. */
  get openRequests(): number {
    return this.#visits.open
  }

  /** Serves a connection without TLS. */
  serveHttp(socket: Socket): void {
    if (!this.#track(socket)) return
    const address = visitorOf(socket)?.source.address ?? ""
    const isTrusted = this.#options.trustedProxies(address)
    this.#connections.set(socket, { address, scheme: "http", serverName: "", context: undefined, isTrusted })
    this.#servers.http1.emit("connection", socket)
  }

  /** Serves a connection with TLS, whose ClientHello can wait in the socket's buffer. */
  serveTls(socket: Socket): void {
    if (this.#track(socket)) this.#servers.tls.emit("connection", socket)
  }

  /** Closes idle connections to the service of a route. Requests that still run after `drainMillis` are cut. */
  retire(route: Route, drainMillis: number): void {
    this.#visits.retire(route, drainMillis)
  }

  /** Lets open requests end for `drainMillis`, and then closes all connections. */
  async close(drainMillis: number): Promise<void> {
    this.#isDraining = true
    this.#servers.http1.closeIdleConnections()
    for (const session of this.#sessions.keys()) session.close()
    await this.#visits.drain(drainMillis)
    // The last bytes of the last responses leave first.
    await new Promise<void>((done) => this.#options.clock.soon(done))
    for (const session of this.#sessions.keys()) session.destroy()
    for (const socket of this.#sockets) socket.destroy()
    this.#timer?.cancel()
    this.#servers.http1.close()
  }

  #track(socket: Socket): boolean {
    if (this.#isDraining) {
      socket.destroy()
      return false
    }
    this.#sockets.add(socket)
    socket.setNoDelay(true)
    socket.on("error", ignore).once("close", () => this.#sockets.delete(socket))
    return true
  }

  #secureConnection(socket: TLSSocket): VisitorConnection {
    const address = visitorOf(socket)?.source.address ?? ""
    const serverName = String(socket.servername).toLowerCase()
    const context = this.#options.secureContext(serverName)
    return { address, scheme: "https", serverName, context, isTrusted: this.#options.trustedProxies(address) }
  }

  readonly #onRequest = (request: IncomingMessage, response: ServerResponse) => {
    if (response.socket === null && !this.#pipelined.add(request.socket, response)) return
    this.#serveHttp1(request, new Http1Visit(request, response, this.#options.clock), () => undefined)
  }

  readonly #onUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    const visit = Http1Visit.upgrade(request, socket, head, this.#options.clock)
    this.#serveHttp1(request, visit, ({ upgrade }) => http1Upgrade(upgrade, false))
  }

  #serveHttp1(request: IncomingMessage, visit: Visit, upgradeOf: Arrival["upgradeOf"]): void {
    const connection = this.#connections.get(request.socket)
    if (connection === undefined) return void request.socket.destroy()
    const { rawHeaders, url = "" } = request
    this.#visits.serve(visit, { connection, target: url, authority: undefined, rawHeaders, upgradeOf })
  }

  readonly #onSession = (session: ServerHttp2Session) => {
    const connection = this.#connections.get(session.socket) ?? this.#connectionOfSession(session)
    if (connection === undefined) return session.destroy()
    this.#connections.set(session, connection)
    this.#sessions.set(session, { openStreams: 0, idleSince: this.#options.clock.monotonic() })
    session.once("close", () => this.#sessions.delete(session))
    this.#checkSessionsLater()
  }

  /** The session's socket is a proxy of the real one. */
  #connectionOfSession(session: ServerHttp2Session): VisitorConnection | undefined {
    const socket = session.socket as TLSSocket
    return socket.destroyed ? undefined : this.#secureConnection(socket)
  }

  readonly #onStream = (
    stream: ServerHttp2Stream,
    headers: Readonly<Record<string, unknown>>,
    allHeaders: ReadonlyArray<string>
  ) => {
    const { session } = stream
    const connection = session === undefined ? undefined : this.#connections.get(session)
    const state = session === undefined ? undefined : this.#sessions.get(session as ServerHttp2Session)
    if (connection === undefined || state === undefined) return void stream.destroy()
    state.openStreams += 1
    stream.once("close", () => {
      state.openStreams -= 1
      state.idleSince = this.#options.clock.monotonic()
    })
    const method = String(headers[":method"])
    const protocol = headers[":protocol"]
    const rawHeaders = withoutPseudoFields(allHeaders)
    const authority = typeof headers[":authority"] === "string" ? headers[":authority"] : undefined
    const target = String(headers[":path"] ?? "")
    this.#visits.serve(new Http2Visit(stream, method), {
      connection,
      target,
      authority,
      rawHeaders,
      upgradeOf: () =>
        protocol === "websocket" && method === "CONNECT"
          ? { protocol, isExtendedConnect: true, key: (this.#options.webSocketKey ?? randomKey)() }
          : undefined
    })
  }

  /** Closes sessions without a request after the time-out. A session that does not end by then is destroyed. */
  #checkSessionsLater(): void {
    const { clock } = this.#options
    this.#timer ??= clock.after(checkMillis, () => {
      this.#timer = undefined
      const oldest = clock.monotonic() - this.#limits.keepAliveMillis
      for (const [session, { idleSince, openStreams }] of this.#sessions) {
        if (openStreams > 0 || idleSince > oldest) continue
        if (session.closed) session.destroy()
        else session.close()
      }
      if (this.#sessions.size > 0) this.#checkSessionsLater()
    })
  }

  #logBadRequest(socket: Socket, status: number): void {
    const { accessLog, clock } = this.#options
    accessLog({
      time: clock.wall(),
      visitor: this.#connections.get(socket)?.address ?? "",
      host: "",
      method: "",
      path: "",
      protocol: "HTTP/1.1",
      status,
      receivedBytes: 0,
      sentBytes: 0,
      durationMillis: 0,
      tunnelId: undefined,
      referer: undefined,
      userAgent: undefined
    })
  }
}

const randomKey = () => randomBytes(16).toString("base64")
const ignore = () => {}

/** Pseudo fields come first (RFC 9113, 8.3). */
function withoutPseudoFields(rawHeaders: ReadonlyArray<string>): ReadonlyArray<string> {
  let at = 0
  while (rawHeaders[at]?.startsWith(":") === true) at += 2
  return rawHeaders.slice(at)
}
