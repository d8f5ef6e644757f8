/** A visitor of a udp tunnel, identified by address and port, with its own port toward the service. */
import type { Route } from "#gateway/Route.ts"
import type { TunnelUdpSocket } from "#wireguard/Device.ts"
import type { Socket } from "node:dgram"

/** Sessions that share a bound, in the order of their last activity (to the second). */
export class SessionScope {
  /** The service has not answered, or the visitor has sent nothing since. The address can be forged. */
  readonly fresh = new Set<UdpSession>()
  /** The visitor has sent again after an answer. */
  readonly confirmed = new Set<UdpSession>()

  get size(): number {
    return this.fresh.size + this.confirmed.size
  }

  add(session: UdpSession): void {
    ;(session.isConfirmed ? this.confirmed : this.fresh).add(session)
  }

  delete(session: UdpSession): void {
    if (!this.fresh.delete(session)) this.confirmed.delete(session)
  }

  /** The session that a new one replaces. Forged addresses cannot replace more than one confirmed session. */
  oldest(): UdpSession | undefined {
    for (const session of this.fresh) return session
    for (const session of this.confirmed) return session
    return undefined
  }
}

export interface UdpSession {
  readonly key: string
  readonly address: string
  readonly port: number
  readonly scopes: ReadonlyArray<SessionScope>
  /** Removes the session from the tables of its owners. */
  readonly onClose: () => void
  route: Route
  /** Public socket at which the visitor's last datagram arrived; undefined while the machine's addresses change. */
  publicSocket: Socket | undefined
  /** Undefined while the port is being opened. */
  tunnelSocket: TunnelUdpSocket | undefined
  /** Datagrams that wait for the port. */
  waiting: Array<Buffer>
  hasAnswer: boolean
  isConfirmed: boolean
  isClosed: boolean
  /** Monotonic milliseconds. */
  lastActivity: number
  /** Time of the session's last move to the end of its scopes. */
  movedAt: number
}
