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
import { connect } from "node:net"
import { KernelInterface } from "./KernelInterface.ts"
import { KernelPorts } from "./KernelPorts.ts"
import { runCommand } from "./runCommand.ts"
import { endpointText, parseDump, peerChanges, peersText, rulesText } from "./wgText.ts"

export interface KernelDeviceOptions {
  readonly privateKey: string
  readonly listenPort: number
  readonly mtu: number
  readonly clock: Clock
  readonly warn: (message: string) => void
}

/** Facts about peers are read again after this time. */
const statsMillis = 2_000

/** Interval of attempts to start wireguard-go again. */
const restartMillis = 1_000

/** Opens the interface. Rejects with a sentence, and with `code` `EADDRINUSE` for a port in use. */
export const openKernelDevice = async (options: KernelDeviceOptions): Promise<Device> => {
  const network = new KernelInterface(options)
  const device = new KernelDevice(options, network, await network.open())
  await device.applyRules()
  return device
}

class KernelDevice implements Device {
  readonly kind = "kernel"
  readonly listenPort: number
  readonly #options: KernelDeviceOptions
  readonly #network: KernelInterface
  readonly #ports = new KernelPorts()
  #peers: ReadonlyArray<PeerConfig> = []
  /** Peers of changes that have failed half-way, by their whole configuration. */
  #uncertain: ReadonlyMap<string, PeerConfig> = new Map()
  #stats: { readonly at: number; readonly peers: ReadonlyArray<PeerStats> } | undefined
  /** The last task that changes the system. Tasks run one after another, because their order is the order of their effects. */
  #lastTask: Promise<unknown> = Promise.resolve()
  #rules = ""
  #lastWarning: string | undefined
  #isClosed = false

  constructor(options: KernelDeviceOptions, network: KernelInterface, listenPort: number) {
    this.#options = options
    this.#network = network
    this.listenPort = listenPort
    network.onEnd = (reason) => {
      options.warn(`wireguard-go has ended (${reason}); starting it again`)
      this.#restart()
    }
  }

  configure(peers: ReadonlyArray<PeerConfig>): Promise<void> {
    return this.#whileOpen(async () => {
      await this.#reopen()
      await this.#setPeers(peers)
      await this.applyRules()
      await this.#ports.setPeers(peers)
    })
  }

  async listen(port: number, onConnection: (connection: IncomingConnection) => void): Promise<() => void> {
    await this.#whileOpen(() => this.#ports.listen(port, onConnection))
    await this.#inTurn(() => this.applyRules())
    let isListening = true
    return () => {
      if (!isListening) return
      isListening = false
      this.#ports.stopListening(port)
      void this.#inTurn(() => this.applyRules())
    }
  }

  connect({ address, port, timeoutMillis }: Parameters<Device["connect"]>[0]): TunnelSocket {
    const peer = this.#ports.peers.get(address)
    if (peer === undefined || this.#isClosed) return unreachableSocket(this.#options.clock)
    const socket = connect({ host: address, port, localAddress: peer.localAddress, noDelay: true })
    this.#ports.track(socket, peer)
    const timer = this.#options.clock.after(timeoutMillis, () => socket.destroy(connectionError("ETIMEDOUT")))
    socket.once("connect", timer.cancel).once("close", timer.cancel)
    return socket
  }

  async bindUdp(port: number, onDatagram: OnDatagram): Promise<TunnelUdpSocket> {
    const applyRules = () => void this.#inTurn(() => this.applyRules())
    // A gateway binds a free port for each visitor, which no rule concerns.
    if (port === 0 && !this.#isClosed) return await this.#ports.bindUdp(0, onDatagram, () => {})
    const socket = await this.#whileOpen(() => this.#ports.bindUdp(port, onDatagram, applyRules))
    await this.#inTurn(() => this.applyRules())
    return socket
  }

  /** While the interface is being made again, the last known facts. */
  async stats(): Promise<ReadonlyArray<PeerStats>> {
    const now = this.#options.clock.monotonic()
    if (this.#stats !== undefined && now - this.#stats.at < statsMillis) return this.#stats.peers
    const byKey = new Map(this.#peers.map((peer) => [peer.publicKey, peer]))
    const dump = await runCommand("wg", ["show", this.#network.name, "dump"]).catch(() => undefined)
    const peers = dump === undefined ? this.#stats?.peers ?? [] : parseDump(dump, byKey)
    this.#stats = { at: now, peers }
    return peers
  }

  /** A keepalive that is turned on is sent at once, and starts a handshake where there is no session. */
  renewHandshakes(): void {
    void this.#inTurn(async () => {
      const peers = this.#peers.filter(({ endpoint, keepaliveSeconds }) =>
        endpoint !== undefined || keepaliveSeconds > 0
      )
      const set = (words: (peer: PeerConfig) => ReadonlyArray<string>) =>
        runCommand("wg", [
          "set",
          this.#network.name,
          ...peers.flatMap((peer) => ["peer", peer.publicKey, ...words(peer)])
        ])
      if (peers.length === 0 || this.#isClosed) return
      await set(({ keepaliveSeconds }) => ["persistent-keepalive", keepaliveSeconds > 0 ? "0" : "1"])
      await set(({ endpoint, keepaliveSeconds }) => [
        "persistent-keepalive",
        String(keepaliveSeconds),
        // The endpoint of a peer that keeps no mapping open itself was learned, and is newer than the configured one.
        ...endpoint !== undefined && keepaliveSeconds > 0 ? ["endpoint", endpointText(endpoint)] : []
      ])
    }).catch((error: Error) => this.#warnOnce(error.message))
  }

  close(): Promise<void> {
    const wasClosed = this.#isClosed
    this.#isClosed = true
    return this.#inTurn(async () => {
      if (wasClosed) return
      this.#ports.close()
      await runCommand("nft", ["delete", "table", "inet", this.#network.name]).catch(() => {})
      await this.#network.close()
    })
  }

  /** Opens exactly the ports in use. Without nft, the interface is as open as the machine's other rules allow. */
  async applyRules(): Promise<void> {
    const { tcp, udp } = this.#ports
    const rules = rulesText(this.#network.name, { tcp, udp, peers: this.#peers.map(({ address }) => address) })
    if (rules === this.#rules || this.#isClosed) return
    await runCommand("nft", ["-f", "-"], rules).then(
      () => (this.#rules = rules),
      (error: Error) => this.#warnOnce(`the ports of the tunnels are not limited: ${error.message}`)
    )
  }

  #whileOpen<A>(task: () => Promise<A>): Promise<A> {
    return this.#inTurn(async () => {
      if (this.#isClosed) throw new Error("cannot change the WireGuard device: it is closed")
      return await task()
    })
  }

  #inTurn<A>(task: () => Promise<A>): Promise<A> {
    const done = this.#lastTask.then(task)
    this.#lastTask = done.catch(() => {})
    return done
  }

  /** A change that fails half-way is repeated by the next one. */
  async #setPeers(peers: ReadonlyArray<PeerConfig>): Promise<void> {
    const { name } = this.#network
    const uncertain = [...this.#uncertain.values()]
    const { additions, deletions, removed, set } = peerChanges(name, { known: this.#peers, uncertain }, peers)
    this.#uncertain = new Map([...uncertain, ...peers].map((peer) => [JSON.stringify(peer), peer]))
    if (removed.length > 0) await runCommand("wg", ["set", name, ...removed.flatMap((key) => ["peer", key, "remove"])])
    if (set.length > 0) await runCommand("wg", ["addconf", name, "/dev/stdin"], peersText(set))
    // The kernel has removed a route already if its source address has gone.
    if (deletions.length > 0) await runCommand("ip", ["-force", "-batch", "-"], batchText(deletions)).catch(() => {})
    if (additions.length > 0) await runCommand("ip", ["-batch", "-"], batchText(additions))
    this.#peers = peers
    this.#uncertain = new Map()
  }

  #restart(): void {
    void this.#inTurn(() => this.#reopen()).catch((error: Error) => {
      this.#warnOnce(error.message)
      this.#options.clock.after(restartMillis, () => this.#restart())
    })
  }

  /** Makes the interface with its peers again after wireguard-go has ended. Sockets of the system survive that. */
  async #reopen(): Promise<void> {
    if (this.#network.isUp || this.#isClosed) return
    await this.#network.open(this.listenPort)
    const endpoints = new Map(this.#stats?.peers.map(({ endpoint, publicKey }) => [publicKey, endpoint]))
    const peers = this.#peers
    const lastKnown = peers.map((peer) => ({ ...peer, endpoint: peer.endpoint ?? endpoints.get(peer.publicKey) }))
    this.#peers = []
    try {
      await this.#setPeers(lastKnown)
    } catch (error) {
      await this.#network.close()
      throw error
    } finally {
      this.#peers = peers
    }
  }

  #warnOnce(message: string): void {
    if (message !== this.#lastWarning) this.#options.warn(message)
    this.#lastWarning = message
  }
}

const batchText = (lines: ReadonlyArray<string>): string => `${lines.join("\n")}\n`
