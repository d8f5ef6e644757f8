/** Bounds the TCP connections of one server by address, from the moment that they are accepted. */
import type { Quota } from "#rateLimit/Quota.ts"
import { unmappedAddress } from "#schema/ids.ts"
import { addressMatcher, isLoopback, type SettingsValues } from "#server/Settings.ts"
import type { Server } from "node:http"
import type { Socket } from "node:net"
import { fourTuple, remoteOf, type SocketEndpoints } from "./proxyHeaderPhase.ts"

const gates = new WeakMap<Server, ConnectionGate>()

/** From now on the server receives a connection only if the quota has a slot for its address. */
export const guardConnections = (
  server: Server,
  quota: Quota,
  settings: Pick<SettingsValues, "trustedProxies">
): void => {
  gates.set(server, new ConnectionGate(server, quota, addressMatcher(settings.trustedProxies)))
}

/** Undefined for a server that `makeServer` has not created. */
export const connectionGateOf = (server: Server): ConnectionGate | undefined => gates.get(server)

/** A connection that was closed because its address, or all addresses together, had too many. */
export interface RefusedConnection {
  readonly address: string
  /** The limit that was reached. */
  readonly limit: number
  readonly isLimitOfAddress: boolean
}

class ConnectionGate {
  onRefuse: (refused: RefusedConnection) => void = () => {}
  readonly #server: Server
  readonly #quota: Quota
  readonly #isTrusted: (address: string) => boolean
  readonly #handlers: ReadonlyArray<(socket: Socket) => void>
  /** Releases of the slots by four-tuple, because a TLS server passes on another object than the one that it accepted. */
  readonly #releases = new Map<string, () => void>()

  constructor(server: Server, quota: Quota, isTrusted: (address: string) => boolean) {
    this.#server = server
    this.#quota = quota
    this.#isTrusted = isTrusted
    this.#handlers = server.listeners("connection") as Array<(socket: Socket) => void>
    server.removeAllListeners("connection").on("connection", (socket: Socket) => this.#accept(socket))
  }

  /** Frees the slot of a connection that now counts in another pool. Does nothing if it has none. */
  release(socket: SocketEndpoints): void {
    this.#releases.get(fourTuple(socket))?.()
  }

  #accept(socket: Socket): void {
    const address = unmappedAddress(remoteOf(socket).address ?? "unknown")
    // A proxy may hold more than the share of one address. Each of its requests counts for the client that it names.
    const privileges = { isShared: this.#isTrusted(address), mayUseReserve: isLoopback(address) }
    const release = this.#quota.tryAcquire(address, privileges)
    if (release === undefined) {
      const { perHolder, reserved, total } = this.#quota.limits
      const isLimitOfAddress = !privileges.isShared && this.#quota.isHolderAtLimit(address)
      this.onRefuse({ address, isLimitOfAddress, limit: isLimitOfAddress ? perHolder : total - reserved })
      return void socket.destroy()
    }
    const key = fourTuple(socket)
    // The next connection may reuse the four-tuple before the close of this one is reported.
    const free = () => {
      release()
      if (this.#releases.get(key) === free) this.#releases.delete(key)
    }
    this.#releases.set(key, free)
    socket.once("close", free)
    for (const handler of this.#handlers) handler.call(this.#server, socket)
  }
}
