/** Addresses of visitors: of the socket, or from the PROXY header of a trusted proxy in front of the gateway. */
import type { TcpEnds } from "#proxyProtocol/TcpEnds.ts"
import { unmappedAddress } from "#schema/ids.ts"
import type { Socket } from "node:net"

export type SocketEnds = Pick<Socket, "remoteAddress" | "remotePort" | "localAddress" | "localPort">

/** The visitor and the address of the gateway; undefined if the socket has closed already. */
export const endsOf = (socket: SocketEnds): TcpEnds | undefined => {
  const { localAddress, localPort, remoteAddress, remotePort } = socket
  if (remoteAddress === undefined || remotePort === undefined) return undefined
  return {
    source: { address: plainAddress(remoteAddress), port: remotePort },
    destination: { address: plainAddress(localAddress ?? "0.0.0.0"), port: localPort ?? 0 }
  }
}

/** Without the IPv4-mapped form and without a zone. */
export const plainAddress = (address: string): string => {
  const zone = address.indexOf("%")
  return unmappedAddress(zone === -1 ? address : address.slice(0, zone))
}

/**
 * Visitors from PROXY headers by the four-tuple of their connection, because TLS wraps the socket in another object, and
 * both objects have the same four-tuple.
 */
const endsByFourTuple = new Map<string, TcpEnds>()

/** The visitor of a socket or of the TLS socket around it; undefined if the socket has closed already. */
export const visitorOf = (socket: SocketEnds): TcpEnds | undefined =>
  (endsByFourTuple.size === 0 ? undefined : endsByFourTuple.get(fourTuple(socket))) ?? endsOf(socket)

/** Remembers the visitor until the socket closes. */
export const rememberVisitor = (socket: Socket, ends: TcpEnds): void => {
  const key = fourTuple(socket)
  endsByFourTuple.set(key, ends)
  // The next connection can have the same four-tuple before the close of this one is reported.
  socket.once("close", () => endsByFourTuple.get(key) === ends && endsByFourTuple.delete(key))
}

function fourTuple({ localAddress, localPort, remoteAddress, remotePort }: SocketEnds): string {
  return `${remoteAddress} ${remotePort} ${localAddress} ${localPort}`
}
