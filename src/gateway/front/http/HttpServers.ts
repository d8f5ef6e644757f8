/** Node's servers for HTTP/1, HTTP/2 and TLS, which get their sockets from the listeners of the front. */
import type { Clock } from "#processes/clock.ts"
import { createServer as createHttp1, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import {
  createServer as createHttp2,
  type Http2Server,
  type ServerHttp2Session,
  type ServerHttp2Stream
} from "node:http2"
import type { Socket } from "node:net"
import type { Duplex } from "node:stream"
import { createServer as createTls, type SecureContext, type Server as TlsServer, type TLSSocket } from "node:tls"
import { type FrontError, frontErrors, rawErrorResponse } from "./errorPages.ts"
import { hasBody } from "./Http1Visit.ts"
import type { HttpLimits } from "./limits.ts"
import { http1Upgrade } from "./upgrades.ts"

export interface HttpServersOptions {
  readonly limits: HttpLimits
  readonly clock: Clock
  readonly secureContext: (serverName: string) => SecureContext | undefined
  /** A TLS connection whose handshake is complete. */
  readonly onSecure: (socket: TLSSocket) => void
  readonly onRequest: (request: IncomingMessage, response: ServerResponse) => void
  readonly onUpgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void
  readonly onSession: (session: ServerHttp2Session) => void
  readonly onStream: (
    stream: ServerHttp2Stream,
    headers: Readonly<Record<string, unknown>>,
    rawHeaders: ReadonlyArray<string>
  ) => void
  /** A connection of HTTP/1 ended with an error that the gateway has answered. */
  readonly onBadRequest: (socket: Socket, error: FrontError) => void
}

export interface HttpServers {
  readonly http1: Server
  readonly http2: Http2Server
  readonly tls: TlsServer
}

export const createHttpServers = (options: HttpServersOptions): HttpServers => {
  const http1 = createHttp1Server(options)
  const http2 = createHttp2Server(options)
  return { http1, http2, tls: createTlsServer(options, http1, http2) }
}

function createHttp1Server(options: HttpServersOptions): Server {
  const { limits, onBadRequest, onRequest, onUpgrade } = options
  const server = createHttp1({
    insecureHTTPParser: false,
    maxHeaderSize: limits.maxHeaderBytes,
    headersTimeout: limits.headersMillis,
    // Bodies have their own time-outs, without a bound on their duration.
    requestTimeout: 0,
    keepAliveTimeout: limits.keepAliveMillis,
    connectionsCheckingInterval: Math.max(10, Math.min(2_000, limits.headersMillis / 4)),
    requireHostHeader: false,
    shouldUpgradeCallback: (request) => http1Upgrade(request.headers.upgrade, hasBody(request)) !== undefined
  })
  // Fields above the limit are rejected, not dropped.
  server.maxHeadersCount = 0
  server.on("request", onRequest).on("checkContinue", onRequest).on("upgrade", onUpgrade)
  server.on("connect", (_request, socket) => endWithError(socket, frontErrors.methodNotAllowed, options))
  server.on("clientError", (error: NodeJS.ErrnoException, socket) => {
    const { _httpMessage: response } = socket as { readonly _httpMessage?: ServerResponse | null }
    const isInResponse = response !== undefined && response !== null
    if (error.code === "ECONNRESET" || !socket.writable || isInResponse) return void socket.destroy()
    const answer = parseErrors[error.code ?? ""] ?? frontErrors.badRequest
    onBadRequest(socket as Socket, answer)
    endWithError(socket, answer, options)
  })
  // The server listens on no port. The event starts its checks of header time-outs.
  server.emit("listening")
  return server
}

const parseErrors: Readonly<Record<string, FrontError>> = {
  HPE_HEADER_OVERFLOW: frontErrors.headersTooLarge,
  ERR_HTTP_REQUEST_TIMEOUT: frontErrors.headersTimeout,
  HPE_INVALID_TRANSFER_ENCODING: frontErrors.badFraming,
  HPE_UNEXPECTED_CONTENT_LENGTH: frontErrors.badFraming,
  HPE_INVALID_CONTENT_LENGTH: frontErrors.badFraming
}

/** Time for a visitor to take the answer. */
const endMillis = 2_000

function endWithError(socket: Duplex, error: FrontError, { clock }: HttpServersOptions): void {
  const timer = clock.after(endMillis, () => socket.destroy())
  socket.on("error", () => {}).once("close", timer.cancel)
  socket.end(rawErrorResponse(error))
  // A close with unread input would be a reset, which can overtake the answer.
  socket.removeAllListeners("data").resume()
}

function createHttp2Server({ limits, onSession, onStream }: HttpServersOptions): Http2Server {
  const server = createHttp2({
    maxHeaderListPairs: limits.maxHeaders + 8,
    settings: {
      enableConnectProtocol: true,
      enablePush: false,
      maxConcurrentStreams: limits.maxStreams,
      maxHeaderListSize: limits.maxHeaderBytes,
      initialWindowSize: streamWindowBytes
    }
  })
  server.on("session", (session) => {
    session.on("error", () => {})
    // The connection is ready in the next turn.
    process.nextTick(() => session.destroyed || session.setLocalWindowSize(connectionWindowBytes))
    onSession(session)
  })
  server.on("sessionError", () => {})
  server.on("stream", (stream, headers, _flags, rawHeaders: ReadonlyArray<string>) => {
    onStream(stream, headers, rawHeaders)
  })
  return server
}

/** Upload that is on the way at a time, for one request and for all requests of a connection. */
const streamWindowBytes = 262_144
const connectionWindowBytes = 1_048_576

function createTlsServer(
  { limits, onSecure, secureContext }: HttpServersOptions,
  http1: Server,
  http2: Http2Server
): TlsServer {
  const server = createTls({
    ALPNProtocols: ["h2", "http/1.1"],
    handshakeTimeout: limits.headersMillis,
    minVersion: "TLSv1.2",
    // Without a context, the server has no certificate, and the handshake fails with an alert.
    SNICallback: (serverName, done) => done(null, secureContext(serverName.toLowerCase()))
  })
  server.on("tlsClientError", (_error, socket) => void socket.destroy())
  server.on("secureConnection", (socket) => {
    socket.on("error", () => {})
    // A session ticket outlives the certificate.
    if (typeof socket.servername !== "string" || secureContext(socket.servername.toLowerCase()) === undefined)
      return void socket.destroy()
    onSecure(socket)
    const server = socket.alpnProtocol === "h2" ? http2 : http1
    server.emit("connection", socket)
  })
  return server
}
