/** An HTTP front on loopback, with services, visitors and routes of a test. */
import { type AccessLogEntry } from "#gateway/front/http/accessLog.ts"
import { HttpFront, type HttpFrontOptions } from "#gateway/front/http/HttpFront.ts"
import type { Route } from "#gateway/Route.ts"
import { issueCertificate } from "#support/certificates.ts"
import { ManualClock } from "#support/ManualClock.ts"
import type { TunnelSocket } from "#wireguard/Device.ts"
import { once } from "node:events"
import {
  createServer as createHttp,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  request as httpRequest,
  type RequestListener,
  type Server as HttpServer
} from "node:http"
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2"
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net"
import type { Readable } from "node:stream"
import { connect as connectTls, createSecureContext, type TLSSocket } from "node:tls"
import { onTestFinished } from "vitest"

/** `app` and `other` have certificates of their own, `a.wild` and `b.wild` share one, `plain` has none. */
const issued = {
  app: issueCertificate({ names: ["app.example.com"], commonName: "app.example.com" }),
  other: issueCertificate({ names: ["other.example.com"], commonName: "other.example.com" }),
  wild: issueCertificate({ names: ["*.wild.example.com"], commonName: "wild.example.com" })
}
const contexts = new Map(
  Object.entries({
    "app.example.com": issued.app,
    "other.example.com": issued.other,
    "*.wild.example.com": issued.wild
  }).map(([name, { certificate, privateKey }]) => [
    name,
    createSecureContext({ cert: certificate, key: privateKey })
  ])
)
export const authorities = Object.values(issued).map(({ certificate }) => certificate)
export const appTls = { cert: issued.app.certificate, key: issued.app.privateKey }

const wildcard = (name: string) => `*${name.slice(name.indexOf("."))}`

export interface TestRoute extends Route {
  readonly outcomes: Array<string>
  /** Connections that the front has opened. */
  readonly opened: Array<Socket>
}

export const route = (domain: string, port: number, changes: Partial<Route> = {}): TestRoute => {
  const outcomes: Array<string> = []
  const opened: Array<Socket> = []
  return {
    tunnelId: `tunnel of ${domain}`,
    domain,
    protocol: "http",
    listenPort: null,
    address: "10.64.0.2",
    port,
    scheme: "http",
    tls: "verify",
    proxyProtocol: "none",
    connect: () => {
      const socket = connect({ host: "127.0.0.1", port })
      opened.push(socket)
      return socket as unknown as TunnelSocket
    },
    report: (outcome) => void outcomes.push(outcome),
    ...changes,
    outcomes,
    opened
  }
}

export interface TestFront {
  readonly front: HttpFront
  readonly clock: ManualClock
  readonly log: Array<AccessLogEntry>
  readonly httpPort: number
  readonly httpsPort: number
}

/** Starts a front with a clock that the test moves. The end of the test closes it. */
export const startFront = async (
  routes: ReadonlyArray<Route>,
  changes: Partial<HttpFrontOptions> = {}
): Promise<TestFront> => {
  const clock = new ManualClock()
  const log: Array<AccessLogEntry> = []
  const byName = new Map(routes.map((each) => [each.domain, each]))
  const front = new HttpFront({
    routes: { find: (name) => byName.get(name) ?? byName.get(wildcard(name)) },
    secureContext: (name) => contexts.get(name) ?? contexts.get(wildcard(name)),
    limits: {},
    publicHttpsPort: 443,
    trustedProxies: () => false,
    accessLog: (entry) => log.push(entry),
    clock,
    acme: () => undefined,
    ...changes
  })
  const httpPort = await listen(createServer((socket) => front.serveHttp(socket)))
  const httpsPort = await listen(createServer((socket) => front.serveTls(socket)))
  onTestFinished(async () => {
    const closed = front.close(0)
    clock.advance(0)
    await closed
  })
  return { front, clock, log, httpPort, httpsPort }
}

export const listen = async (server: Server): Promise<number> => {
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  onTestFinished(() => {
    server.close()
    if ("closeAllConnections" in server) (server as HttpServer).closeAllConnections()
  })
  return (server.address() as AddressInfo).port
}

/** An HTTP service. Returns its port. */
export const startService = (listener: RequestListener): Promise<number> => listen(createHttp(listener))

export interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly rawHeaders: ReadonlyArray<string>
  readonly trailers: NodeJS.Dict<string>
  readonly body: string
}

export interface Ask {
  readonly method?: string
  readonly path?: string
  readonly headers?: OutgoingHttpHeaders | ReadonlyArray<string>
  readonly body?: string
}

/** One HTTP/1.1 request on a new connection. */
export const ask = async (port: number, host: string, options: Ask = {}): Promise<Answer> => {
  const { body, headers = {}, method = "GET", path = "/" } = options
  const sent = httpRequest({
    host: "127.0.0.1",
    port,
    method,
    path,
    agent: false,
    headers: Array.isArray(headers) ? headers : { Host: host, ...headers }
  })
  sent.end(body)
  const [response] = await once(sent, "response") as [IncomingMessage]
  const text = await textOf(response)
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    rawHeaders: response.rawHeaders,
    trailers: response.trailers,
    body: text
  }
}

export const textOf = async (stream: Readable): Promise<string> => {
  const chunks: Array<Buffer> = []
  stream.on("data", (chunk: Buffer) => chunks.push(chunk))
  await once(stream, "end")
  return Buffer.concat(chunks).toString()
}

/** A TCP connection of a visitor. */
export const visit = async (port: number): Promise<Socket> => {
  const socket = closeAfterTest(connect({ host: "127.0.0.1", port, noDelay: true }))
  await once(socket, "connect")
  return socket
}

/** Sends bytes and returns everything until the connection ends. */
export const raw = async (port: number, bytes: string): Promise<string> => {
  const socket = await visit(port)
  socket.write(Buffer.from(bytes, "latin1"))
  return untilClosed(socket)
}

export const untilClosed = (socket: Socket): Promise<string> => {
  const { promise, resolve } = Promise.withResolvers<string>()
  let text = ""
  socket.on("data", (chunk: Buffer) => void (text += chunk.toString("latin1"))).on("error", () => {})
  socket.once("close", () => resolve(text))
  return promise
}

const tlsVisit = async (port: number, servername: string, protocols: Array<string>): Promise<TLSSocket> => {
  const socket = closeAfterTest(
    connectTls({ host: "127.0.0.1", port, servername, ca: authorities, ALPNProtocols: protocols })
  )
  await once(socket, "secureConnect")
  return socket
}

export const http2Visit = async (port: number, servername: string): Promise<ClientHttp2Session> => {
  const socket = await tlsVisit(port, servername, ["h2"])
  const session = connectHttp2(`https://${servername}`, { createConnection: () => socket })
  session.on("error", () => {})
  onTestFinished(() => session.destroy())
  await once(session, "remoteSettings")
  return session
}

export const closeAfterTest = <S extends { destroy(): unknown; on(event: "error", listener: () => void): unknown }>(
  socket: S
): S => {
  socket.on("error", () => {})
  onTestFinished(() => void socket.destroy())
  return socket
}

/** Waits, turn by turn of the event loop, until the condition holds. */
export const until = async (condition: () => boolean): Promise<void> => {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve))
}
