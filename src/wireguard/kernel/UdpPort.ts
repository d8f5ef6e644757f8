/** A UDP port of a kernel device, open to its peers at its local addresses. */
import type { OnDatagram, PeerConfig, TunnelUdpSocket } from "#wireguard/Device.ts"
import { createSocket, type Socket } from "node:dgram"
import { once } from "node:events"
import { portError } from "./portError.ts"

/** The system chooses the source address by the route. */
const anyAddress = "0.0.0.0"

export class UdpPort {
  /** The port that the caller asked for; 0 for any free one, which has one socket for all addresses. */
  readonly asked: number
  readonly #onDatagram: OnDatagram
  /** By local address. */
  readonly #sockets = new Map<string, Socket>()
  #peers: ReadonlyMap<string, PeerConfig> = new Map()
  #isClosed = false

  constructor(asked: number, onDatagram: OnDatagram) {
    this.asked = asked
    this.#onDatagram = onDatagram
  }

  get port(): number {
    return this.asked === 0 ? this.#sockets.get(anyAddress)?.address().port ?? 0 : this.asked
  }

  /** `peers`: by address. Rejects with a sentence if the port is in use. */
  async setPeers(peers: ReadonlyMap<string, PeerConfig>): Promise<void> {
    this.#peers = peers
    const addresses = this.asked === 0
      ? new Set([anyAddress])
      : new Set(Array.from(peers.values(), ({ localAddress }) => localAddress))
    for (const [address, socket] of this.#sockets) {
      if (addresses.has(address)) continue
      socket.close()
      this.#sockets.delete(address)
    }
    await Promise.all([...addresses].filter((one) => !this.#sockets.has(one)).map((one) => this.#bind(one)))
  }

  /** A datagram to an address that no peer has is dropped. */
  send(payload: Uint8Array, to: Parameters<TunnelUdpSocket["send"]>[1]): void {
    const peer = this.#peers.get(to.address)
    if (peer === undefined) return
    this.#sockets.get(this.asked === 0 ? anyAddress : peer.localAddress)?.send(
      payload,
      to.port,
      to.address,
      ignoreError
    )
  }

  close(): void {
    this.#isClosed = true
    for (const socket of this.#sockets.values()) socket.close()
    this.#sockets.clear()
  }

  async #bind(address: string): Promise<void> {
    // Peers' addresses need no lookup, which would cost a turn of the event loop for each datagram.
    const socket = createSocket({ type: "udp4", lookup: (host, _options, callback) => callback(null, host, 4) })
    this.#sockets.set(address, socket)
    const listening = once(socket, "listening")
    socket.bind({ port: this.asked, address })
    await listening.catch((error: NodeJS.ErrnoException) => {
      this.#sockets.delete(address)
      socket.close()
      throw portError("UDP", this.asked, address, error)
    })
    socket.on("error", ignoreError)
    socket.on("message", (payload, from) => {
      if (!this.#isClosed && this.#peers.has(from.address)) this.#onDatagram(payload, from)
    })
  }
}

/** A datagram that the system refuses counts as lost. */
const ignoreError = () => {}
