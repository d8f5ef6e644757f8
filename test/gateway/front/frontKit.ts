/** A gateway's listeners on loopback, with services, visitors and routes of a test. */
import { defaultLimits, type FrontLimits, Listeners, type ListenersOptions } from "#gateway/front/Listeners.ts"
import type { Route } from "#gateway/Route.ts"
import { ManualClock } from "#support/ManualClock.ts"
import { issueCertificate } from "#support/certificates.ts"
import type { Device, OnDatagram, TunnelSocket } from "#wireguard/Device.ts"
import { createSocket } from "node:dgram"
import { once } from "node:events"
import type { Duplex } from "node:stream"
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net"
import { onTestFinished } from "vitest"

export const certificate = issueCertificate({ names: ["app.example.com", "pass.example.com"] })
export const tlsOptions = { cert: certificate.certificate, key: certificate.privateKey }

export interface TestRoute extends Route {
  readonly outcomes: Array<string>
}

/** A tcp route to a port of 127.0.0.1, with the changes that a test needs. */
export const route = (changes: Partial<Route>): TestRoute => {
  const outcomes: Array<string> = []
  const port = changes.port ?? 1
  return {
    tunnelId: "t1",
    domain: "",
    protocol: "tcp",
    listenPort: null,
    address: "127.0.0.1",
    scheme: "http",
    tls: "verify",
    proxyProtocol: "none",
    connect: () => connect({ host: "127.0.0.1", port, allowHalfOpen: false }) as unknown as TunnelSocket,
    report: (outcome) => void outcomes.push(outcome),
    ...changes,
    port,
    outcomes
  }
}

/** UDP through the tunnel, as sockets of 127.0.0.1. */
export const loopbackUdp: Pick<Device, "bindUdp"> = {
  bindUdp: async (port: number, onDatagram: OnDatagram) => {
    const socket = createSocket("udp4")
    socket.on("message", (datagram, from) => onDatagram(datagram, from))
    socket.bind(port, "127.0.0.1")
    await once(socket, "listening")
    return {
      port: socket.address().port,
      send: (payload, to) => socket.send(payload, to.port, to.address),
      close: () => void socket.close()
    }
  }
}

export interface Front {
  readonly listeners: Listeners
  readonly clock: ManualClock
  readonly problems: Array<string>
  /** Results of retries of ports. */
  readonly portProblems: Array<ReadonlyMap<string, string>>
}

export type FrontChanges =
  & Partial<Omit<ListenersOptions, "routes" | "limits">>
  & { readonly limits?: Partial<FrontLimits>; readonly names?: ReadonlyArray<Route> }

/** Starts listeners on 127.0.0.1 with a clock that the test moves. The end of the test closes them. */
export const startFront = async ({ limits = {}, names = [], ...changes }: FrontChanges = {}): Promise<Front> => {
  const clock = new ManualClock()
  const problems: Array<string> = []
  const portProblems: Array<ReadonlyMap<string, string>> = []
  const byName = new Map(names.map((named) => [named.domain, named]))
  const listeners = new Listeners({
    bind: ["127.0.0.1"],
    httpPort: 0,
    httpsPort: 0,
    routes: { find: (name) => byName.get(name) },
    httpFront: { serveHttp: (socket) => socket.destroy(), serveTls: (socket) => socket.destroy() },
    udp: loopbackUdp,
    clock,
    trustedProxies: () => false,
    proxyProtocolIn: false,
    onProblem: (problem) => problems.push(problem),
    onPortProblems: (changed) => portProblems.push(changed),
    ...changes,
    limits: { ...defaultLimits, ...limits }
  })
  await listeners.start()
  onTestFinished(() => listeners.close(0))
  return { listeners, clock, problems, portProblems }
}

/** A TCP service of 127.0.0.1 that allows half-open connections. The end of the test closes it. */
export const startService = async (onConnection: (socket: Socket) => void, port = 0): Promise<number> => {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    closeAfterTest(socket)
    onConnection(socket)
  })
  return listen(server, port)
}

export const listen = async (server: Server, port = 0): Promise<number> => {
  server.listen(port, "127.0.0.1")
  await once(server, "listening")
  onTestFinished(() => void server.close())
  return (server.address() as AddressInfo).port
}

/** A visitor that has connected to a port of 127.0.0.1. */
export const visit = async (port: number, options: { readonly localAddress?: string } = {}): Promise<Socket> => {
  const socket = closeAfterTest(connect({ host: "127.0.0.1", port, allowHalfOpen: true, noDelay: true, ...options }))
  await once(socket, "connect")
  return socket
}

export const closeAfterTest = <S extends { destroy(): unknown; on(event: "error", listener: () => void): unknown }>(
  socket: S
): S => {
  socket.on("error", () => {})
  onTestFinished(() => void socket.destroy())
  return socket
}

/** All bytes until the other end has ended its output. The connection stays open in the other direction. */
export const readAll = (socket: Duplex): Promise<Buffer> => {
  const { promise, reject, resolve } = Promise.withResolvers<Buffer>()
  const chunks: Array<Buffer> = []
  socket.on("data", (chunk: Buffer) => chunks.push(chunk)).once("error", reject)
  socket.once("end", () => resolve(Buffer.concat(chunks)))
  return promise
}

/** The next `length` bytes. */
export const readBytes = async (socket: Socket, length: number): Promise<Buffer> => {
  let bytes = Buffer.alloc(0)
  while (bytes.length < length) {
    const [chunk] = await once(socket, "data") as [Buffer]
    bytes = Buffer.concat([bytes, chunk])
  }
  return bytes
}

/** How a connection ends: `end`, or the code of its error. Discards its bytes. */
export const ending = (socket: Socket): Promise<string> => {
  const { promise, resolve } = Promise.withResolvers<string>()
  socket.once("end", () => resolve("end")).once("error", ({ code }: NodeJS.ErrnoException) => resolve(code ?? "error"))
  socket.resume()
  return promise
}

/** How a connection to this port ends, also if it ends before the visitor knows that it is established. */
export const endingOf = (port: number): Promise<string> => ending(closeAfterTest(connect({ host: "127.0.0.1", port })))

/** Waits, turn by turn of the event loop, until the condition holds. */
export const until = async (condition: () => boolean): Promise<void> => {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve))
}
