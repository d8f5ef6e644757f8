/** The time of a connection before HTTP and TLS, in which a proxy says whose it is: the socket's part of `proxyProtocol.ts`. */
import { Quota } from "#rateLimit/Quota.ts"
import { unmappedAddress } from "#schema/ids.ts"
import { type SettingsValues, within } from "#server/Settings.ts"
import type { Server } from "node:http"
import { Server as TlsServer } from "node:https"
import type { Socket } from "node:net"
import { type Remote, remoteTold } from "./peer.ts"
import { decide } from "./proxyProtocol.ts"

type Ends = Pick<Socket, "remoteAddress" | "remotePort" | "localAddress" | "localPort">

/** Of connections that are open, whom their header names. TLS has sockets of its own, and these four are the same for both. */
const told = new Map<string, Remote>()

const fourOf = ({ localAddress, localPort, remoteAddress, remotePort }: Ends): string =>
  `${remoteAddress} ${remotePort} ${localAddress} ${localPort}`

export const remoteOf = (socket: Ends): Remote =>
  told.get(fourOf(socket)) ?? { address: socket.remoteAddress, isKnown: true }

const phases = new WeakMap<Server, HeaderPhase>()

/** From now on the server is given a connection only when its header has been read. */
export const expectHeaders = (server: Server, rules: Rules): void => {
  phases.set(server, new HeaderPhase(server, rules))
}

/** None where the server expects no headers. */
export const headerPhaseOf = (server: Server): HeaderPhase | undefined => phases.get(server)

/** The settings that it keeps to. */
export type Rules = Pick<SettingsValues, "trustedProxies" | "maxUnauthenticated" | "maxUnauthenticatedPerIp">

/** The connections of one server that have not said enough yet to be handed to it. */
class HeaderPhase {
  /** Is told whose connection was closed and why. */
  onRefusal: (trouble: string) => void = () => {}
  readonly #server: Server
  readonly #handlers: ReadonlyArray<(socket: Socket) => void>
  readonly #isTrusted: (address: string) => boolean
  readonly #waiting = new Set<Waiting>()
  readonly #strangers: Quota
  /** As many from one of them as from all, since each speaks for many. */
  readonly #proxies: Quota

  constructor(server: Server, rules: Rules) {
    this.#server = server
    this.#strangers = new Quota(rules.maxUnauthenticated, rules.maxUnauthenticatedPerIp)
    this.#proxies = new Quota(rules.maxUnauthenticated, rules.maxUnauthenticated)
    this.#isTrusted = within(rules.trustedProxies)
    this.#handlers = server.listeners("connection") as Array<(socket: Socket) => void>
    server.removeAllListeners("connection").on("connection", (socket: Socket) => this.#begin(socket))
    // HTTP closes what is idle before it waits for the rest, and does not know of these.
    const close = server.close.bind(server)
    server.close = (done) => {
      for (const { socket } of this.#waiting) socket.destroy()
      return close(done)
    }
  }

  /** Cuts those who were here at the last call already. */
  cutOverdue(): void {
    for (const waiting of this.#waiting) {
      if (waiting.isOverdue) {
        if (waiting.isTrusted) this.#tell(waiting, "its PROXY header has not come in time")
        waiting.socket.destroy()
      }
      waiting.isOverdue = true
    }
  }

  #begin(socket: Socket): void {
    const waiting = new Waiting(socket, this.#isTrusted)
    const leave = this.#enter(waiting)
    if (leave === undefined) return void socket.destroy()
    let bytes: Buffer = Buffer.alloc(0)
    const destroy = () => void socket.destroy()
    const onData = (chunk: Buffer) => {
      bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk])
      const decision = decide(bytes, waiting.isTrusted)
      if (decision._tag === "Wait") return
      if (decision._tag === "Refuse") {
        this.#tell(waiting, decision.reason)
        return destroy()
      }
      leave()
      // Before anything else: it must not flow into nowhere while nobody listens.
      socket.pause().off("data", onData).off("end", destroy).off("error", destroy).off("close", leave)
      const { header } = decision
      if (header !== undefined) remember(socket, waiting.address, header.client)
      this.#handOver(socket, header === undefined ? bytes : bytes.subarray(header.length))
    }
    // The server keeps half-open sockets, which these have no use for.
    socket.on("data", onData).on("end", destroy).on("error", destroy).on("close", leave)
  }

  /** Gives how it leaves; undefined when too many are there. */
  #enter(waiting: Waiting): (() => void) | undefined {
    const leave = (waiting.isTrusted ? this.#proxies : this.#strangers).take(waiting.address)
    if (leave === undefined) return undefined
    this.#waiting.add(waiting)
    return () => {
      this.#waiting.delete(waiting)
      leave()
    }
  }

  #handOver(socket: Socket, rest: Buffer): void {
    if (rest.length > 0) socket.unshift(rest)
    for (const handler of this.#handlers) handler.call(this.#server, socket)
    // TLS takes what waits by itself, and what comes from below the socket.
    if (!(this.#server instanceof TlsServer)) socket.resume()
  }

  #tell({ address }: Waiting, reason: string): void {
    this.onRefusal(`a connection of ${address} was closed: ${reason}`)
  }
}

class Waiting {
  readonly socket: Socket
  readonly address: string
  readonly isTrusted: boolean
  isOverdue = false

  constructor(socket: Socket, isTrusted: (address: string) => boolean) {
    this.socket = socket
    this.address = unmappedAddress(socket.remoteAddress ?? "unknown")
    this.isTrusted = isTrusted(this.address)
  }
}

function remember(socket: Socket, proxy: string, client: string | undefined): void {
  const four = fourOf(socket)
  const remote = remoteTold(proxy, client)
  told.set(four, remote)
  // The same four may belong to the next one before this one is known to be closed.
  socket.once("close", () => told.get(four) === remote && told.delete(four))
}
