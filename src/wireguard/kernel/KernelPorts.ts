/** TCP and UDP ports that a kernel device opens at its local addresses, and its connections. */
import type { IncomingConnection, OnDatagram, PeerConfig, TunnelUdpSocket } from "#wireguard/Device.ts"
import { once } from "node:events"
import { createServer, type Server, type Socket } from "node:net"
import { portError } from "./portError.ts"
import { UdpPort } from "./UdpPort.ts"

type OnConnection = (connection: IncomingConnection) => void

/**
 * A port has one server for each local address. A wildcard server would also be open to other networks and would conflict with
 * every program that uses the port at another address.
 */
export class KernelPorts {
  /** By address. */
  #peers: ReadonlyMap<string, PeerConfig> = new Map()
  readonly #listeners = new Map<number, OnConnection>()
  /** By port, then by local address. */
  readonly #servers = new Map<number, Map<string, Server>>()
  readonly #udp = new Set<UdpPort>()
  readonly #connections = new Map<Socket, PeerConfig>()

  get tcp(): ReadonlyArray<number> {
    return [...this.#listeners.keys()]
  }

  /** Only ports that were asked for; a socket at any free port receives answers only. */
  get udp(): ReadonlyArray<number> {
    return Array.from(this.#udp, ({ asked }) => asked).filter((port) => port !== 0)
  }

  get peers(): ReadonlyMap<string, PeerConfig> {
    return this.#peers
  }

  /** Follows a change of the peers. The local addresses must exist. Rejects with the first problem after it has tried all ports. */
  async setPeers(peers: ReadonlyArray<PeerConfig>): Promise<void> {
    this.#peers = new Map(peers.map((peer) => [peer.address, peer]))
    for (const [socket, { address, publicKey }] of this.#connections) {
      // Another key is another machine, which knows nothing of the connection.
      if (this.#peers.get(address)?.publicKey !== publicKey) endConnection(socket)
    }
    const results = await Promise.allSettled([
      ...Array.from(this.#listeners.keys(), (port) => this.#openServers(port)),
      ...Array.from(this.#udp, (udp) => udp.setPeers(this.#peers))
    ])
    const failed = results.find((result) => result.status === "rejected")
    if (failed !== undefined) throw failed.reason
  }

  async listen(port: number, onConnection: OnConnection): Promise<void> {
    if (this.#listeners.has(port)) throw new Error(`TCP port ${port} has a listener already`)
    this.#listeners.set(port, onConnection)
    await this.#openServers(port).catch((error: unknown) => {
      this.stopListening(port)
      throw error
    })
  }

  stopListening(port: number): void {
    this.#listeners.delete(port)
    for (const server of this.#servers.get(port)?.values() ?? []) server.close()
    this.#servers.delete(port)
  }

  /** `onClosed` is called when the caller closes the port. */
  async bindUdp(asked: number, onDatagram: OnDatagram, onClosed: () => void): Promise<TunnelUdpSocket> {
    const udp = new UdpPort(asked, onDatagram)
    this.#udp.add(udp)
    try {
      await udp.setPeers(this.#peers)
    } catch (error) {
      this.#udp.delete(udp)
      udp.close()
      throw error
    }
    return {
      port: udp.port,
      send: (payload, to) => udp.send(payload, to),
      close: () => {
        if (!this.#udp.delete(udp)) return
        udp.close()
        onClosed()
      }
    }
  }

  /** Ends the connection with the device, or when its peer is removed. */
  track(socket: Socket, peer: PeerConfig): void {
    this.#connections.set(socket, peer)
    socket.once("close", () => this.#connections.delete(socket))
  }

  close(): void {
    for (const port of this.tcp) this.stopListening(port)
    for (const udp of this.#udp) udp.close()
    this.#udp.clear()
    for (const socket of this.#connections.keys()) endConnection(socket)
  }

  async #openServers(port: number): Promise<void> {
    const servers = this.#servers.get(port) ?? new Map<string, Server>()
    this.#servers.set(port, servers)
    const addresses = new Set(Array.from(this.#peers.values(), ({ localAddress }) => localAddress))
    for (const [address, server] of servers) {
      if (addresses.has(address)) continue
      server.close()
      servers.delete(address)
    }
    await Promise.all(
      [...addresses].filter((address) => !servers.has(address)).map(async (address) => {
        const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => this.#accept(port, socket))
        servers.set(address, server)
        server.on("error", () => {})
        const listening = once(server, "listening")
        server.listen(port, address)
        await listening.catch((error: NodeJS.ErrnoException) => {
          servers.delete(address)
          throw portError("TCP", port, address, error)
        })
      })
    )
  }

  #accept(port: number, socket: Socket): void {
    const { remoteAddress = "", remotePort = 0 } = socket
    const onConnection = this.#listeners.get(port)
    const peer = this.#peers.get(remoteAddress)
    socket.on("error", () => {})
    if (onConnection === undefined || peer === undefined) return void socket.resetAndDestroy()
    this.track(socket, peer)
    onConnection({
      remoteAddress,
      remotePort,
      accept: () => socket,
      reject: () => void socket.resetAndDestroy()
    })
  }
}

/** Sends RST, so that the peer knows; a socket that is still connecting has nothing to reset. */
function endConnection(socket: Socket): void {
  if (socket.connecting) socket.destroy()
  else socket.resetAndDestroy()
}
