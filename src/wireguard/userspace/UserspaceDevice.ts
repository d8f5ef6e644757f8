/** WireGuard, TCP and UDP inside this process: no root, no TUN device, no kernel module. */
import type { Clock, Timer } from "#processes/clock.ts"
import { randomBytes } from "node:crypto"
import { isIPv4 } from "node:net"
import type {
  Device,
  IncomingConnection,
  OnDatagram,
  PeerConfig,
  PeerStats,
  TunnelSocket,
  TunnelUdpSocket
} from "#wireguard/Device.ts"
import { IpStack } from "#wireguard/ip/IpStack.ts"
import { WireGuard, type WireGuardEvent } from "#wireguard/noise/WireGuard.ts"
import { DatagramSockets } from "./DatagramSockets.ts"
import { type SocketOwner, UserspaceSocket } from "./UserspaceSocket.ts"

export interface UserspaceDeviceOptions {
  /** WireGuard private key, 32 bytes in base64. */
  readonly privateKey: string
  /** UDP port of WireGuard; 0 chooses a free one. */
  readonly listenPort: number
  /** Largest packet inside the tunnels, in bytes. */
  readonly mtu: number
  readonly clock: Clock
  readonly random?: (bytes: number) => Buffer
  readonly onEvent?: (event: WireGuardEvent) => void
}

/** Opens the UDP port and begins. Rejects with the system's error, such as `EADDRINUSE`. */
export const openUserspaceDevice = async (options: UserspaceDeviceOptions): Promise<Device> => {
  const device = new UserspaceDevice(options)
  await device.open(options.listenPort)
  return device
}

class UserspaceDevice implements Device {
  readonly kind = "userspace"
  readonly #clock: Clock
  readonly #wireguard: WireGuard
  readonly #stack: IpStack
  readonly #owner: SocketOwner
  #sockets: DatagramSockets | undefined
  /** Peers by their address inside the network. */
  #peers: ReadonlyMap<string, PeerConfig> = new Map()
  #isFlushScheduled = false
  #timer: { readonly deadline: number; readonly timer: Timer } | undefined
  #isClosed = false

  constructor({ clock, mtu, onEvent, privateKey, random = randomBytes }: UserspaceDeviceOptions) {
    this.#clock = clock
    this.#wireguard = new WireGuard({
      privateKey,
      random,
      wall: clock.wall,
      sendDatagram: (datagram, to) => this.#sockets?.send(datagram, to),
      receivePacket: (packet) => this.#stack.receive(this.#clock.monotonic(), packet),
      ...onEvent === undefined ? {} : { onEvent }
    })
    this.#stack = new IpStack({
      mtu,
      random32: () => random(4).readUInt32LE(0),
      sendPacket: (packet) => void this.#wireguard.send(this.#clock.monotonic(), packet)
    })
    this.#owner = { clock, scheduleFlush: () => this.#scheduleFlush() }
  }

  get listenPort(): number {
    return this.#sockets?.port ?? 0
  }

  async open(port: number): Promise<void> {
    this.#sockets = await DatagramSockets.open(port, (datagram, from) => {
      this.#wireguard.receive(this.#clock.monotonic(), datagram, from)
      this.#scheduleFlush()
    })
  }

  async configure(peers: ReadonlyArray<PeerConfig>): Promise<void> {
    if (this.#isClosed) throw new Error("cannot configure the WireGuard device: it is closed")
    const now = this.#clock.monotonic()
    const next = new Map(peers.map((peer) => [peer.address, peer]))
    this.#wireguard.setPeers(now, peers)
    for (const [address, { publicKey }] of this.#peers) {
      // Another key is another machine, which knows nothing of the connections.
      if (next.get(address)?.publicKey !== publicKey) this.#stack.closeConnectionsTo(address)
    }
    this.#peers = next
    this.#stack.setLocalAddresses(peers.map(({ localAddress }) => localAddress))
    this.#scheduleFlush()
  }

  async listen(port: number, onConnection: (connection: IncomingConnection) => void): Promise<() => void> {
    return this.#stack.tcpListen(port, (incoming) => {
      onConnection({
        remoteAddress: incoming.remoteAddress,
        remotePort: incoming.remotePort,
        accept: () =>
          new UserspaceSocket(
            this.#owner,
            (now, handlers) => this.#isClosed ? undefined : incoming.accept(now, handlers),
            undefined
          ),
        reject: () => {
          if (!this.#isClosed) incoming.reject(this.#clock.monotonic())
          this.#scheduleFlush()
        }
      })
    })
  }

  connect({ address, port, timeoutMillis }: Parameters<Device["connect"]>[0]): TunnelSocket {
    const localAddress = this.#peers.get(address)?.localAddress
    return new UserspaceSocket(
      this.#owner,
      (now, handlers) =>
        localAddress === undefined
          ? undefined
          : this.#stack.tcpConnect(now, { localAddress, address, port }, handlers),
      timeoutMillis
    )
  }

  async bindUdp(port: number, onDatagram: OnDatagram): Promise<TunnelUdpSocket> {
    const bound = this.#stack.udpBind(port, (payload, from) => onDatagram(payload, from))
    return {
      port: bound.port,
      send: (payload, to) => {
        const peer = this.#peers.get(to.address)
        if (peer === undefined || !isIPv4(to.address)) return
        bound.send(payload, peer.localAddress, to)
        this.#scheduleFlush()
      },
      close: bound.close
    }
  }

  stats(): ReadonlyArray<PeerStats> {
    return this.#wireguard.stats()
  }

  renewHandshakes(): void {
    this.#wireguard.renewHandshakes(this.#clock.monotonic())
    this.#scheduleFlush()
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    const now = this.#clock.monotonic()
    // Resets tell the peers that no connection continues.
    this.#stack.setLocalAddresses([])
    this.#stack.flush(now)
    this.#isClosed = true
    this.#peers = new Map()
    this.#timer?.timer.cancel()
    this.#sockets?.close()
    this.#sockets = undefined
  }

  #scheduleFlush(): void {
    if (this.#isFlushScheduled) return
    this.#isFlushScheduled = true
    this.#clock.soon(() => {
      this.#isFlushScheduled = false
      if (this.#isClosed) return
      if (this.#stack.flush(this.#clock.monotonic())) this.#scheduleFlush()
      this.#setTimer()
    })
  }

  /** Keeps the armed timer if it fires early enough, because arming one for each packet would cost more than the packet. */
  #setTimer(): void {
    const deadline = Math.min(this.#wireguard.nextTimer(), this.#stack.nextTimer())
    if (this.#isClosed || deadline === Infinity || (this.#timer !== undefined && this.#timer.deadline <= deadline))
      return
    this.#timer?.timer.cancel()
    const timer = this.#clock.after(Math.ceil(deadline - this.#clock.monotonic()), () => {
      this.#timer = undefined
      const now = this.#clock.monotonic()
      this.#wireguard.tick(now)
      this.#stack.tick(now)
      this.#scheduleFlush()
    })
    this.#timer = { deadline, timer }
  }
}
