/** A WireGuard interface of a program: peers, and TCP and UDP through the tunnels to them. Two adapters implement it. */
import type { Duplex } from "node:stream"

/** UDP address of the other end outside the tunnel. `host` is an IPv4 or IPv6 address without brackets. */
export interface Endpoint {
  readonly host: string
  readonly port: number
}

/** A peer and the addresses inside its tunnel. Both AllowedIPs are /32. */
export interface PeerConfig {
  /** WireGuard public key, 32 bytes in base64. */
  readonly publicKey: string
  /** IPv4 address of the peer inside the network. */
  readonly address: string
  /** IPv4 address of this device toward this peer. */
  readonly localAddress: string
  /** Address to which handshakes are sent. Without one, the device waits for the peer and learns its endpoint. */
  readonly endpoint: Endpoint | undefined
  /** Seconds between keepalives to the peer; 0 sends none. */
  readonly keepaliveSeconds: number
}

/** Facts about one peer since the device began. */
export interface PeerStats {
  readonly publicKey: string
  /** IPv4 address of the peer inside the network. */
  readonly address: string
  /** Time of the last completed handshake in milliseconds since 1970; undefined before the first one. */
  readonly lastHandshakeAt: number | undefined
  /** Bytes of WireGuard datagrams. */
  readonly receivedBytes: number
  readonly sentBytes: number
  /** The endpoint from which the last authenticated datagram came. */
  readonly endpoint: Endpoint | undefined
}

/**
 * A TCP connection through a tunnel, with the methods of `net.Socket` that `node:http`, `node:tls` and pipes use. It emits
 * `connect` once, or `error` with a `code` as `net.connect` does: `ECONNREFUSED` (the peer rejected the connection),
 * `ECONNRESET`, `ETIMEDOUT` (no answer), `EHOSTUNREACH` (no peer has the address). `allowHalfOpen` is false as for `net.connect`;
 * pipes set it to true.
 */
export interface TunnelSocket extends Duplex {
  readonly connecting: boolean
  readonly remoteAddress: string | undefined
  readonly remotePort: number | undefined
  readonly localAddress?: string | undefined
  setTimeout(millis: number, listener?: () => void): this
  setNoDelay(enabled?: boolean): this
  setKeepAlive(enabled?: boolean, initialDelayMillis?: number): this
  ref(): this
  unref(): this
  /** Sends RST and destroys the socket. */
  resetAndDestroy(): this
}

/** A TCP connection that a peer asks for. Exactly one of the two methods is called, once. */
export interface IncomingConnection {
  readonly remoteAddress: string
  readonly remotePort: number
  /** Completes the handshake. */
  readonly accept: () => TunnelSocket
  /** Answers with RST, so that the peer sees `ECONNREFUSED` or, where the kernel has accepted already, `ECONNRESET`. */
  readonly reject: () => void
}

/** UDP datagrams on one port of this device's addresses. */
export interface TunnelUdpSocket {
  /** The local port. */
  readonly port: number
  readonly send: (payload: Uint8Array, to: { readonly address: string; readonly port: number }) => void
  readonly close: () => void
}

/** Receives a UDP payload. The buffer is valid during the call only. */
export type OnDatagram = (payload: Buffer, from: { readonly address: string; readonly port: number }) => void

export interface Device {
  readonly kind: "userspace" | "kernel"
  /** UDP port on which WireGuard listens. */
  readonly listenPort: number
  /** Replaces the peers. A peer that stays keeps its session and its connections. Rejects if the system refuses a change. */
  configure(peers: ReadonlyArray<PeerConfig>): Promise<void>
  /** Accepts TCP connections from peers to this port at any local address. Returns the function that stops it. */
  listen(port: number, onConnection: (connection: IncomingConnection) => void): Promise<() => void>
  /** Opens a TCP connection to a peer's address. Fails by the socket's `error` event. */
  connect(to: { readonly address: string; readonly port: number; readonly timeoutMillis: number }): TunnelSocket
  /** Receives and sends UDP. Port 0 chooses a free one. */
  bindUdp(port: number, onDatagram: OnDatagram): Promise<TunnelUdpSocket>
  stats(): ReadonlyArray<PeerStats> | Promise<ReadonlyArray<PeerStats>>
  /** Starts a new handshake with every peer that has an endpoint, for example after the machine's address has changed. */
  renewHandshakes(): void
  /** Ends all connections and removes what the device created in the system. */
  close(): Promise<void>
}
