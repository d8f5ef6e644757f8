/** WireGuard for many peers as a state machine over (now, datagram), without sockets and timers. */
import type { Endpoint, PeerStats } from "#wireguard/Device.ts"
import {
  cookieReplyBytes,
  dataHeaderBytes,
  initiationBytes,
  messageType,
  minDataBytes,
  responseBytes,
  tagBytes
} from "./constants.ts"
import { CookieIssuer, hasValidMac1 } from "./cookies.ts"
import { DeadlineHeap } from "#wireguard/DeadlineHeap.ts"
import { type Local, localIdentity, readInitiation } from "./handshake.ts"
import { IndexTable } from "./IndexTable.ts"
import { defaultInitiationLimits, InitiationLimiter, type InitiationLimits } from "./InitiationLimiter.ts"
import { noCounts, type WireGuardCounters, type WireGuardEvent, type WireGuardPeer } from "./interface.ts"
import { Peer, type PeerHost } from "./Peer.ts"
import { Timestamps } from "./tai64n.ts"
import { decodeKey } from "./x25519.ts"

export type { WireGuardCounters, WireGuardEvent, WireGuardPeer } from "./interface.ts"

export interface WireGuardOptions {
  /** WireGuard private key, 32 bytes in base64. */
  readonly privateKey: string
  /** Random bytes for keys and indexes: `randomBytes` of node:crypto, except in tests. */
  readonly random: (bytes: number) => Buffer
  /** Milliseconds since 1970, for timestamps of handshakes and `lastHandshakeAt` only. */
  readonly wall: () => number
  /** Sends a datagram outside the tunnels. The buffer belongs to the callee. */
  readonly sendDatagram: (datagram: Buffer, to: Endpoint) => void
  /**
   * A decrypted IPv4 packet that comes from the peer's address, cut to its total length. It is a part of the datagram that `receive`
   * was called with, so that no byte is copied. node:dgram allocates each datagram, and the packet stays valid after the call.
   */
  readonly receivePacket: (packet: Buffer, publicKey: string) => void
  /** Must not call the WireGuard object, and neither must `sendDatagram`. `receivePacket` may call `send`. */
  readonly onEvent?: (event: WireGuardEvent) => void
  readonly limits?: InitiationLimits
}

const minIpv4Bytes = 20
/** The longest UDP payload (RFC 768) less WireGuard's header, tag and padding. */
const maxPacketBytes = 65_456
/** Peers that one `tick` serves, so that 1,000 handshakes do not hold up the packets of others. */
const maxPeersPerTick = 64

export class WireGuard {
  /** Public key of the device, 32 bytes in base64. */
  readonly publicKey: string
  /** Dropped datagrams and packets, by reason. */
  readonly counters: Readonly<WireGuardCounters>
  readonly #counters = noCounts()
  readonly #local: Local
  readonly #receivePacket: (packet: Buffer, publicKey: string) => void
  readonly #sendDatagram: (datagram: Buffer, to: Endpoint) => void
  readonly #host: PeerHost
  readonly #indexes: IndexTable<Peer>
  readonly #timers = new DeadlineHeap<Peer>()
  readonly #limiter: InitiationLimiter
  readonly #cookies: CookieIssuer
  #peers: ReadonlyMap<string, Peer> = new Map()
  /** Peers by address, as a 32-bit number. */
  #routes: ReadonlyMap<number, Peer> = new Map()
  #now = -Infinity

  /** Throws if the private key is not 32 bytes in base64. */
  constructor({ limits = defaultInitiationLimits, onEvent = () => {}, privateKey, ...options }: WireGuardOptions) {
    this.#local = localIdentity(decodeKey(privateKey, "private key"))
    this.publicKey = this.#local.publicKey.toString("base64")
    this.counters = this.#counters
    this.#receivePacket = options.receivePacket
    this.#sendDatagram = options.sendDatagram
    this.#indexes = new IndexTable(options.random)
    this.#limiter = new InitiationLimiter(limits)
    this.#cookies = new CookieIssuer(this.#local, options.random)
    this.#host = {
      local: this.#local,
      random: options.random,
      wall: options.wall,
      timestamps: new Timestamps(),
      counters: this.#counters,
      waitingPackets: 0,
      indexes: this.#indexes,
      sendDatagram: options.sendDatagram,
      onEvent,
      arm: (peer, deadline) => {
        if (deadline < peer.deadline) this.#timers.set(peer, deadline)
      }
    }
  }

  /**
   * Replaces the peers. A peer that stays keeps its sessions and the endpoint that it was last heard from, unless its configured
   * endpoint has changed. Of two peers with one address, the last one has it. Throws, and changes nothing, if a key or an address
   * is invalid.
   */
  setPeers(now: number, peers: ReadonlyArray<WireGuardPeer>): void {
    const time = this.#advance(now)
    const next = new Map<string, Peer>()
    const routes = new Map<number, Peer>()
    for (const { address, publicKey } of peers) {
      if (publicKey === this.publicKey) throw new Error(`cannot use peer ${publicKey}: it has the key of this device`)
      const peer = next.get(publicKey) ?? this.#peers.get(publicKey) ?? new Peer(this.#host, publicKey)
      next.set(publicKey, peer)
      routes.set(ipv4Number(address), peer)
    }
    for (const [publicKey, peer] of this.#peers) {
      if (next.has(publicKey)) continue
      peer.close()
      this.#timers.set(peer, Infinity)
    }
    this.#peers = next
    this.#routes = routes
    for (const peer of peers) next.get(peer.publicKey)?.configure(time, peer)
  }

  /** A datagram from the network. Its buffer is changed. */
  receive(now: number, datagram: Buffer, from: Endpoint): void {
    const time = this.#advance(now)
    const type = datagram.length < minDataBytes ? 0 : datagram.readUInt32LE(0)
    if (type === messageType.data) this.#receiveData(time, datagram, from)
    else if (type === messageType.initiation && datagram.length === initiationBytes) {
      this.#receiveInitiation(time, datagram, from)
    } else if (type === messageType.response && datagram.length === responseBytes) {
      this.#receiveResponse(time, datagram, from)
    } else if (type === messageType.cookieReply && datagram.length === cookieReplyBytes) {
      this.#receiveCookieReply(time, datagram)
    } else {
      this.#counters.malformed += 1
    }
  }

  /**
   * Sends an IPv4 packet to the peer that has its destination address. The packet waits if there is no session, at most 128 for each
   * peer. The buffer can be used again after the call. False if no peer has the address, or if the packet is no IPv4 packet.
   */
  send(now: number, packet: Buffer): boolean {
    if (packet.length < minIpv4Bytes || packet.length > maxPacketBytes) return false
    const peer = this.#routes.get(packet.readUInt32BE(16))
    if (peer === undefined) return false
    peer.send(this.#advance(now), packet)
    return true
  }

  /** Starts a new handshake with every peer that has an endpoint, with the next calls of `tick`. */
  renewHandshakes(now: number): void {
    const time = this.#advance(now)
    for (const peer of this.#peers.values()) peer.renewHandshake(time)
  }

  /** Time at which `tick` has something to do; Infinity if never. Costs no search. */
  nextTimer(): number {
    return this.#timers.first?.deadline ?? Infinity
  }

  /** Does what is due, for 64 peers at most. `nextTimer` is in the past if there is more. */
  tick(now: number): void {
    const time = this.#advance(now)
    for (let served = 0; served < maxPeersPerTick; served += 1) {
      const peer = this.#timers.first
      if (peer === undefined || peer.deadline > time) return
      this.#timers.set(peer, peer.tick(time))
    }
  }

  stats(): ReadonlyArray<PeerStats> {
    return Array.from(this.#peers.values(), (peer) => peer.stats())
  }

  /** Handshakes and sessions (at most four for each peer), and packets that wait for a session (4,096 in all). */
  usage(): { readonly indexes: number; readonly waitingPackets: number } {
    return { indexes: this.#indexes.size, waitingPackets: this.#host.waitingPackets }
  }

  /** Time never runs backwards. */
  #advance(now: number): number {
    if (now > this.#now) this.#now = now
    return this.#now
  }

  #receiveData(now: number, datagram: Buffer, from: Endpoint): void {
    const entry = this.#indexes.get(datagram.readUInt32LE(4))
    if (entry?.session === undefined) {
      this.#counters.unknownIndex += 1
      return
    }
    const { peer, session } = entry
    if (!peer.receiveData(now, session, datagram, from) || datagram.length === minDataBytes) return
    peer.noteDataReceived(now)
    const end = ipv4End(datagram, dataHeaderBytes, datagram.length - tagBytes)
    if (end === undefined || this.#routes.get(datagram.readUInt32BE(dataHeaderBytes + 12)) !== peer) {
      this.#counters.wrongSource += 1
      return
    }
    this.#receivePacket(datagram.subarray(dataHeaderBytes, end), peer.publicKey)
  }

  /** The checks are ordered by cost: MAC 3 µs, limits, X25519, known peer, the rest of the handshake. */
  #receiveInitiation(now: number, message: Buffer, from: Endpoint): void {
    if (!hasValidMac1(this.#local, message)) {
      this.#counters.wrongMac += 1
      return
    }
    const decision = this.#limiter.decide(now, from.host, () => this.#cookies.hasValidMac2(now, message, from))
    if (decision !== "answer") {
      this.#counters.limitedHandshakes += 1
      if (decision === "drop") return
      this.#counters.cookieRepliesSent += 1
      this.#sendDatagram(this.#cookies.reply(now, message, from), from)
      return
    }
    const initiation = readInitiation(this.#local, message)
    const peer = initiation && this.#peers.get(initiation.publicKey.toString("base64"))
    if (initiation === undefined || peer === undefined) this.#counters.rejectedHandshakes += 1
    else peer.receiveInitiation(now, message, initiation, from)
  }

  #receiveResponse(now: number, message: Buffer, from: Endpoint): void {
    const entry = this.#indexes.get(message.readUInt32LE(8))
    if (entry === undefined) this.#counters.unknownIndex += 1
    else if (!hasValidMac1(this.#local, message)) this.#counters.wrongMac += 1
    else entry.peer.receiveResponse(now, message, from)
  }

  #receiveCookieReply(now: number, message: Buffer): void {
    const entry = this.#indexes.get(message.readUInt32LE(4))
    if (entry === undefined) this.#counters.unknownIndex += 1
    else entry.peer.receiveCookieReply(now, message)
  }
}

/** End of the IPv4 packet at `at`; undefined if it is not IPv4 or longer than what was received. */
function ipv4End(datagram: Buffer, at: number, limit: number): number | undefined {
  if (limit - at < minIpv4Bytes || datagram[at]! >> 4 !== 4) return undefined
  const end = at + datagram.readUInt16BE(at + 2)
  return end < at + minIpv4Bytes || end > limit ? undefined : end
}

/** An IPv4 address as a 32-bit number. */
function ipv4Number(address: string): number {
  const octets = address.split(".")
  const isValid = octets.length === 4 && octets.every((octet) => /^\d{1,3}$/u.test(octet) && Number(octet) <= 255)
  if (!isValid) throw new Error(`cannot use peer address ${address}: it is not an IPv4 address`)
  return octets.reduce((number, octet) => number * 256 + Number(octet), 0)
}
