/** Reads the PROXY header of each new connection before TLS and HTTP. `proxyProtocol.ts` decides. */
import { Quota, type QuotaLimits } from "#rateLimit/Quota.ts"
import { unmappedAddress } from "#schema/ids.ts"
import { addressMatcher, type SettingsValues } from "#server/Settings.ts"
import type { Server } from "node:http"
import { Server as TlsServer } from "node:https"
import type { Socket } from "node:net"
import { type RemoteEndpoint, remoteFromProxyHeader } from "./caller.ts"
import { decide } from "./proxyProtocol.ts"

export type SocketEndpoints = Pick<Socket, "remoteAddress" | "remotePort" | "localAddress" | "localPort">

/**
 * Remote endpoints from the headers of open connections. The key is the four-tuple, because TLS wraps the socket in
 * another object, and both objects have the same four-tuple.
 */
const remotesByFourTuple = new Map<string, RemoteEndpoint>()

/** Identifies an open TCP connection, also below TLS. */
export const fourTuple = ({ localAddress, localPort, remoteAddress, remotePort }: SocketEndpoints): string =>
  `${remoteAddress} ${remotePort} ${localAddress} ${localPort}`

/** Other end of a connection according to its PROXY header; without a header, the address of the socket. */
export const remoteOf = (socket: SocketEndpoints): RemoteEndpoint =>
  remotesByFourTuple.get(fourTuple(socket)) ?? { address: socket.remoteAddress, isKnown: true }

const phases = new WeakMap<Server, ProxyHeaderPhase>()

/** From now on the server receives a connection only after its PROXY header has been read. */
export const expectProxyHeaders = (server: Server, settings: HeaderPhaseSettings, limits: QuotaLimits): void => {
  phases.set(server, new ProxyHeaderPhase(server, settings, limits))
}

/** Undefined if the server expects no PROXY headers. */
export const proxyHeaderPhaseOf = (server: Server): ProxyHeaderPhase | undefined => phases.get(server)

/** Settings that the phase needs. */
export type HeaderPhaseSettings = Pick<SettingsValues, "trustedProxies">

/** Connections of one server whose header is not complete yet. */
class ProxyHeaderPhase {
  /** Called with a log line about each connection that is closed because of its header. */
  onReject: (message: string) => void = () => {}
  readonly #server: Server
  readonly #handlers: ReadonlyArray<(socket: Socket) => void>
  readonly #isTrusted: (address: string) => boolean
  readonly #pending = new Set<PendingSocket>()
  readonly #untrustedQuota: Quota
  /** One proxy may use the whole quota, because it forwards many clients. */
  readonly #proxyQuota: Quota

  constructor(server: Server, settings: HeaderPhaseSettings, limits: QuotaLimits) {
    this.#server = server
    this.#untrustedQuota = new Quota(limits)
    this.#proxyQuota = new Quota(limits)
    this.#isTrusted = addressMatcher(settings.trustedProxies)
    this.#handlers = server.listeners("connection") as Array<(socket: Socket) => void>
    server.removeAllListeners("connection").on("connection", (socket: Socket) => this.#accept(socket))
    // `close` waits for open connections and closes idle ones of HTTP, but does not know of pending ones.
    const close = server.close.bind(server)
    server.close = (done) => {
      for (const { socket } of this.#pending) socket.destroy()
      return close(done)
    }
  }

  /** Terminates the connections that were pending at the previous call already. */
  terminateOverdue(): void {
    for (const pending of this.#pending) {
      if (pending.isOverdue) {
        if (pending.isTrusted) this.#reportRejection(pending, "no PROXY header arrived within 10 s")
        pending.socket.destroy()
      }
      pending.isOverdue = true
    }
  }

  #accept(socket: Socket): void {
    const pending = new PendingSocket(socket, this.#isTrusted)
    const release = this.#tryAdd(pending)
    if (release === undefined) return void socket.destroy()
    let bytes: Buffer = Buffer.alloc(0)
    const destroy = () => void socket.destroy()
    const onData = (chunk: Buffer) => {
      bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk])
      const decision = decide(bytes, pending.isTrusted)
      if (decision._tag === "Wait") return
      if (decision._tag === "Reject") {
        this.#reportRejection(pending, decision.reason)
        return destroy()
      }
      release()
      // The socket is paused first, so that no bytes are lost while it has no listener.
      socket.pause().off("data", onData).off("end", destroy).off("error", destroy).off("close", release)
      const { header } = decision
      if (header !== undefined) rememberRemote(socket, pending.address, header.ends?.source.address)
      this.#passToServer(socket, header === undefined ? bytes : bytes.subarray(header.length))
    }
    // The server allows half-open sockets. A client that ends before its header is complete is of no use.
    socket.on("data", onData).on("end", destroy).on("error", destroy).on("close", release)
  }

  /** Adds a connection and returns its release; undefined if the quota is used up. */
  #tryAdd(pending: PendingSocket): (() => void) | undefined {
    const releaseSlot = pending.isTrusted
      ? this.#proxyQuota.tryAcquire(pending.address, { isShared: true })
      : this.#untrustedQuota.tryAcquire(pending.address)
    if (releaseSlot === undefined) return undefined
    this.#pending.add(pending)
    return () => {
      this.#pending.delete(pending)
      releaseSlot()
    }
  }

  #passToServer(socket: Socket, rest: Buffer): void {
    if (rest.length > 0) socket.unshift(rest)
    for (const handler of this.#handlers) handler.call(this.#server, socket)
    // A TLS server itself reads the unshifted bytes and resumes the socket.
    if (!(this.#server instanceof TlsServer)) socket.resume()
  }

  #reportRejection({ address }: PendingSocket, reason: string): void {
    this.onReject(`closed a connection from ${address}: ${reason}`)
  }
}

class PendingSocket {
  readonly socket: Socket
  readonly address: string
  readonly isTrusted: boolean
  /** Whether the connection was pending at the previous sweep. */
  isOverdue = false

  constructor(socket: Socket, isTrusted: (address: string) => boolean) {
    this.socket = socket
    this.address = unmappedAddress(socket.remoteAddress ?? "unknown")
    this.isTrusted = isTrusted(this.address)
  }
}

function rememberRemote(socket: Socket, proxy: string, client: string | undefined): void {
  const key = fourTuple(socket)
  const remote = remoteFromProxyHeader(proxy, client)
  remotesByFourTuple.set(key, remote)
  // The next connection may reuse the four-tuple before the close of this one is reported.
  socket.once("close", () => remotesByFourTuple.get(key) === remote && remotesByFourTuple.delete(key))
}
