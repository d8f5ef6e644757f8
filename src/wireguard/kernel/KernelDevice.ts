/** WireGuard of the system: an interface, addresses, routes and rules of the kernel, and sockets of Node. */
import type { Clock } from "#processes/clock.ts"
import type {
  Device,
  IncomingConnection,
  OnDatagram,
  PeerConfig,
  PeerStats,
  TunnelSocket,
  TunnelUdpSocket
} from "#wireguard/Device.ts"
import { connectionError, unreachableSocket } from "#wireguard/userspace/UserspaceSocket.ts"
import { createSocket } from "node:dgram"
import { once } from "node:events"
import { connect, createServer, type Server, type Socket } from "node:net"
import { KernelInterface } from "./KernelInterface.ts"
import { runCommand } from "./runCommand.ts"
import { parseDump, peerChanges, peersText, rulesText } from "./wgText.ts"

export interface KernelDeviceOptions {
  readonly privateKey: string
  readonly listenPort: number
  readonly mtu: number
  readonly clock: Clock
  readonly warn: (message: string) => void
}

/** Facts about peers are read again after this time. */
const statsMillis = 2_000

/** Opens the interface. Rejects with a sentence if the system refuses. */
export const openKernelDevice = async (options: KernelDeviceOptions): Promise<Device> => {
  const network = await KernelInterface.open(options)
  const device = new KernelDevice(options, network, await network.listenPort())
  await device.applyRules()
  return device
}

class KernelDevice implements Device {
  readonly kind = "kernel"
  readonly listenPort: number
  readonly #options: KernelDeviceOptions
  readonly #network: KernelInterface
  /** By public key, and by address. */
  #peers: ReadonlyMap<string, PeerConfig> = new Map()
  #byAddress: ReadonlyMap<string, PeerConfig> = new Map()
  readonly #listeners = new Map<number, (connection: IncomingConnection) => void>()
  /** By address and port. */
  readonly #servers = new Map<string, Server>()
  readonly #udpPorts = new Set<number>()
  #stats: { readonly at: number; readonly peers: ReadonlyArray<PeerStats> } | undefined
  #hasWarned = false

  constructor(options: KernelDeviceOptions, network: KernelInterface, listenPort: number) {
    this.#options = options
    this.#network = network
    this.listenPort = listenPort
  }

  async configure(peers: ReadonlyArray<PeerConfig>): Promise<void> {
    const { name } = this.#network
    const after = new Map(peers.map((peer) => [peer.publicKey, peer]))
    const { batch, removed, set } = peerChanges(name, this.#peers, after)
    if (removed.length > 0) await runCommand("wg", ["set", name, ...removed.flatMap((key) => ["peer", key, "remove"])])
    if (set.length > 0) await runCommand("wg", ["addconf", name, "/dev/stdin"], peersText(set))
    if (batch.length > 0) await runCommand("ip", ["-batch", "-"], `${batch.join("\n")}\n`)
    this.#peers = after
    this.#byAddress = new Map(peers.map((peer) => [peer.address, peer]))
    await this.#updateServers()
  }

  async listen(port: number, onConnection: (connection: IncomingConnection) => void): Promise<() => void> {
    if (this.#listeners.has(port)) throw new Error(`TCP port ${port} is in use`)
    this.#listeners.set(port, onConnection)
    await this.#updateServers()
    await this.applyRules()
    return () => {
      this.#listeners.delete(port)
      void this.#updateServers().then(() => this.applyRules())
    }
  }

  connect({ address, port, timeoutMillis }: Parameters<Device["connect"]>[0]): TunnelSocket {
    const peer = this.#byAddress.get(address)
    if (peer === undefined) return unreachableSocket(this.#options.clock)
    const socket = connect({ host: address, port, localAddress: peer.localAddress, noDelay: true })
    const timer = this.#options.clock.after(timeoutMillis, () => socket.destroy(connectionError("ETIMEDOUT")))
    socket.once("connect", timer.cancel).once("close", timer.cancel)
    return socket
  }

  async bindUdp(port: number, onDatagram: OnDatagram): Promise<TunnelUdpSocket> {
    const socket = createSocket("udp4")
    socket.on("error", () => {})
    socket.on("message", (payload, from) => {
      if (this.#byAddress.has(from.address)) onDatagram(payload, from)
    })
    const bound = once(socket, "listening")
    // A given port is the agent's, which has one address. Any free port is a gateway's, whose source the route decides.
    const [first] = this.#byAddress.values()
    socket.bind({ port, address: port === 0 ? "0.0.0.0" : first?.localAddress ?? "127.0.0.1" })
    await bound
    const local = socket.address().port
    if (port !== 0) {
      this.#udpPorts.add(port)
      await this.applyRules()
    }
    return {
      port: local,
      send: (payload, to) => socket.send(payload, to.port, to.address, () => {}),
      close: () => {
        this.#udpPorts.delete(port)
        socket.close()
      }
    }
  }

  async stats(): Promise<ReadonlyArray<PeerStats>> {
    const now = this.#options.clock.monotonic()
    if (this.#stats !== undefined && now - this.#stats.at < statsMillis) return this.#stats.peers
    const peers = parseDump(await runCommand("wg", ["show", this.#network.name, "dump"]), this.#peers)
    this.#stats = { at: now, peers }
    return peers
  }

  /** A keepalive that is turned on is sent at once, and starts a handshake where there is no session. */
  renewHandshakes(): void {
    const kept = [...this.#peers.values()].filter(({ keepaliveSeconds }) => keepaliveSeconds > 0)
    const set = (seconds: (peer: PeerConfig) => number) =>
      runCommand("wg", [
        "set",
        this.#network.name,
        ...kept.flatMap((peer) => ["peer", peer.publicKey, "persistent-keepalive", String(seconds(peer))])
      ])
    if (kept.length > 0) {
      void set(() => 0).then(() => set(({ keepaliveSeconds }) => keepaliveSeconds)).catch((error: Error) =>
        this.#options.warn(error.message)
      )
    }
  }

  async close(): Promise<void> {
    for (const server of this.#servers.values()) server.close()
    this.#servers.clear()
    this.#listeners.clear()
    await runCommand("nft", ["delete", "table", "inet", this.#network.name]).catch(() => {})
    await this.#network.close()
  }

  /** Opens exactly the ports in use. Without nft, the interface is as open as the machine's other rules allow. */
  async applyRules(): Promise<void> {
    const rules = rulesText(this.#network.name, [...this.#listeners.keys()], [...this.#udpPorts])
    await runCommand("nft", ["-f", "-"], rules).catch((error: Error) => {
      if (!this.#hasWarned) this.#options.warn(`the ports of the tunnels are not limited: ${error.message}`)
      this.#hasWarned = true
    })
  }

  /** One server for each port at each local address, so that the ports are open to peers only. */
  async #updateServers(): Promise<void> {
    const addresses = new Set([...this.#peers.values()].map(({ localAddress }) => localAddress))
    const wanted = new Map(
      [...addresses].flatMap((address) =>
        [...this.#listeners.keys()].map((port) => [`${address} ${port}`, { address, port }])
      )
    )
    for (const [key, server] of this.#servers) {
      if (wanted.has(key)) continue
      server.close()
      this.#servers.delete(key)
    }
    const missing = [...wanted].filter(([key]) => !this.#servers.has(key))
    await Promise.all(missing.map(async ([key, { address, port }]) => {
      const server = createServer(
        { allowHalfOpen: true, noDelay: true, pauseOnConnect: true },
        (socket) => this.#accept(port, socket)
      )
      this.#servers.set(key, server)
      const listening = once(server, "listening")
      server.listen(port, address)
      await listening
    }))
  }

  #accept(port: number, socket: Socket): void {
    const { remoteAddress = "", remotePort = 0 } = socket
    const onConnection = this.#listeners.get(port)
    socket.on("error", () => {})
    if (onConnection === undefined || !this.#byAddress.has(remoteAddress)) return void socket.resetAndDestroy()
    onConnection({
      remoteAddress,
      remotePort,
      accept: () => {
        socket.resume()
        return socket
      },
      reject: () => void socket.resetAndDestroy()
    })
  }
}
