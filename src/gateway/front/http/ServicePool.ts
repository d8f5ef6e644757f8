/** Kept connections to the service behind one route. */
import type { Route } from "#gateway/Route.ts"
import { Agent, type ClientRequest, request as httpRequest } from "node:http"
import { connect as connectTls, createSecureContext, type SecureContext } from "node:tls"
import type { Duplex } from "node:stream"
import type { HttpLimits } from "./limits.ts"

/** Reading the system's authorities takes milliseconds, so that all connections share one context. */
let clientContext: SecureContext | undefined

class TunnelAgent extends Agent {
  readonly #open: (hostName: string) => Duplex
  isRetired = false

  constructor(open: (hostName: string) => Duplex, limits: HttpLimits) {
    super({
      keepAlive: true,
      maxSockets: Infinity,
      maxFreeSockets: limits.maxIdleConnections,
      scheduling: "lifo",
      // A service that announces its time-out closes no connection that is just being used.
      agentKeepAliveTimeoutBuffer: 1_000,
      timeout: limits.poolIdleMillis
    })
    this.#open = open
  }

  override createConnection(options: { readonly host?: string | null | undefined }): Duplex {
    return this.#open(options.host ?? "")
  }

  override getName(options?: { readonly host?: string | undefined }): string {
    return options?.host ?? ""
  }

  override keepSocketAlive(socket: Duplex): boolean {
    const isKept: unknown = super.keepSocketAlive(socket)
    return !this.isRetired && isKept === true
  }
}

export interface ServiceRequest {
  readonly hostName: string
  readonly method: string
  readonly path: string
  readonly fields: ReadonlyArray<string>
}

export class ServicePool {
  readonly #route: Route
  readonly #limits: HttpLimits
  readonly #agent: TunnelAgent
  /** Requests that have begun and not ended. */
  openRequests = 0

  constructor(route: Route, limits: HttpLimits) {
    this.#route = route
    this.#limits = limits
    this.#agent = new TunnelAgent(route.scheme === "https" ? this.#connectTls : () => this.#connect(), limits)
  }

  /** Throws if a field or the path is not valid. */
  request({ fields, hostName, method, path }: ServiceRequest): ClientRequest {
    return httpRequest({
      agent: this.#agent,
      // Connections with TLS are kept by name, because their SNI is the name.
      host: this.#route.scheme === "https" ? hostName : "service",
      method,
      path,
      headers: fields,
      maxHeaderSize: this.#limits.maxHeaderBytes
    })
  }

  /** Closes the connections without a request. */
  closeIdle(): void {
    for (const sockets of Object.values(this.#agent.freeSockets)) {
      for (const socket of sockets ?? []) socket.destroy()
    }
  }

  /** Closes the connections without a request now, and the others after theirs. */
  retire(): void {
    this.#agent.isRetired = true
    this.closeIdle()
  }

  #connect(): Duplex {
    return this.#route.connect().setNoDelay(true)
  }

  readonly #connectTls = (hostName: string): Duplex => {
    const socket = this.#connect()
    clientContext ??= createSecureContext()
    const secure = connectTls({
      socket,
      servername: hostName,
      rejectUnauthorized: this.#route.tls === "verify",
      ALPNProtocols: ["http/1.1"],
      secureContext: clientContext
    })
    socket.on("error", (error) => secure.destroy(error))
    return secure
  }
}
