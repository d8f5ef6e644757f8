/** TCP, UDP and ICMP over IPv4 as a state machine over (now, packet), without timers and sockets. */
import { Icmp } from "./icmp.ts"
import { acceptedHeaderBytes, parseAddress, protocols, totalBytes } from "./ipv4.ts"
import { type IncomingTcp, type TcpCounters, TcpEndpoints, type TcpLimits } from "./tcp/TcpEndpoints.ts"
import type { TcpHandlers } from "./tcp/connectionParts.ts"
import type { TcpConnection } from "./tcp/TcpConnection.ts"
import { type OnUdp, type UdpCounters, UdpEndpoints } from "./udp.ts"

export type { TcpHandlers } from "./tcp/connectionParts.ts"
export type { TcpConnection } from "./tcp/TcpConnection.ts"
export type { IncomingTcp, TcpLimits } from "./tcp/TcpEndpoints.ts"

export interface IpStackOptions {
  /** Largest IPv4 packet in bytes. */
  readonly mtu: number
  readonly random32: () => number
  /** Sends an IPv4 packet. The buffer is valid during the call only. */
  readonly sendPacket: (packet: Buffer) => void
  readonly limits?: Partial<TcpLimits>
}

export interface IpCounters {
  /** Packets that are not intact IPv4, are fragments, or are for other addresses. */
  dropped: number
  /** Connections, with those that are closed and wait for late segments. */
  connections: number
  /** Bytes in the buffers of all connections. */
  memoryBytes: number
  segmentsSent: number
}

export interface BoundUdp {
  readonly port: number
  /** A payload that does not fit into one packet is dropped and counted. */
  send(payload: Uint8Array, localAddress: string, to: { readonly address: string; readonly port: number }): void
  close(): void
}

const defaultLimits: TcpLimits = {
  maxConnections: 65_536,
  maxPendingPerAddress: 1_024,
  maxPending: 8_192,
  maxMemoryBytes: 256 * 1024 * 1024,
  receiveWindow: 1024 * 1024
}

export class IpStack {
  readonly #tcp: TcpEndpoints
  readonly #udp: UdpEndpoints
  readonly #icmp: Icmp
  #dropped = 0
  #localAddresses: ReadonlySet<number> = new Set()

  constructor({ limits, mtu, random32, sendPacket }: IpStackOptions) {
    this.#tcp = new TcpEndpoints(mtu, random32, { ...defaultLimits, ...limits }, sendPacket)
    this.#udp = new UdpEndpoints(mtu, random32, sendPacket)
    this.#icmp = new Icmp(sendPacket)
  }

  /** Packets to other addresses are dropped. Connections of an address that is no longer local are reset. */
  setLocalAddresses(addresses: Iterable<string>): void {
    const next = new Set(Array.from(addresses, parseAddress))
    this.#localAddresses = next
    this.#tcp.failWhere(({ localAddress }) => !next.has(localAddress), "ECONNRESET", false)
  }

  /** Takes an authenticated packet, whose buffer the stack and the application may keep. */
  receive(now: number, packet: Buffer): void {
    const start = acceptedHeaderBytes(packet)
    if (start === 0 || !this.#localAddresses.has(packet.readUInt32BE(16))) {
      this.#dropped += 1
      return
    }
    const end = totalBytes(packet)
    switch (packet[9]) {
      case protocols.tcp:
        return this.#tcp.receive(now, packet, start, end)
      case protocols.udp:
        if (!this.#udp.receive(packet, start, end)) this.#icmp.portUnreachable(now, packet, start)
        return
      case protocols.icmp:
        return this.#icmp.receive(now, packet, start, end)
      default:
        this.#dropped += 1
    }
  }

  /** Calls back for each connection that a peer asks for. Throws if the port has a listener. Returns the function that ends it. */
  tcpListen(port: number, onSyn: (incoming: IncomingTcp) => void): () => void {
    return this.#tcp.listen(port, onSyn)
  }

  /** Returns undefined if no local port is free. The caller limits the time of the handshake with `reset`. */
  tcpConnect(
    now: number,
    to: { readonly localAddress: string; readonly address: string; readonly port: number },
    handlers: TcpHandlers
  ): TcpConnection | undefined {
    return this.#tcp.connect(now, {
      localAddress: parseAddress(to.localAddress),
      remoteAddress: parseAddress(to.address),
      remotePort: to.port
    }, handlers)
  }

  /** Port 0 chooses a free one. Throws if the port is in use. */
  udpBind(port: number, onDatagram: OnUdp): BoundUdp {
    const bound = this.#udp.bind(port, onDatagram)
    return {
      port: bound,
      send: (payload, localAddress, to) =>
        this.#udp.send(payload, parseAddress(localAddress), bound, parseAddress(to.address), to.port),
      close: () => this.#udp.close(bound)
    }
  }

  /** Sends what writes, reads and received segments have made due. Returns whether more can be sent in another turn. */
  flush(now: number): boolean {
    return this.#tcp.flush(now)
  }

  /** Time of the next `tick`; Infinity if none is needed. */
  nextTimer(): number {
    return this.#tcp.nextTimer
  }

  /** `flush` must follow. */
  tick(now: number): void {
    this.#tcp.tick(now)
  }

  /** Fails the connections to a peer that is gone, with `EHOSTUNREACH` and without a packet. */
  closeConnectionsTo(address: string): void {
    const remote = parseAddress(address)
    this.#tcp.failWhere(({ remoteAddress }) => remoteAddress === remote, "EHOSTUNREACH", true)
  }

  get counters(): IpCounters & TcpCounters & { readonly udp: UdpCounters } {
    const { counters, memoryBytes, segmentsSent, size } = this.#tcp
    return {
      dropped: this.#dropped,
      ...counters,
      segmentsSent,
      connections: size,
      memoryBytes,
      udp: { ...this.#udp.counters }
    }
  }
}
