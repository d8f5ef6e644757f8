/** All TCP connections and listeners of a stack: finds the connection of each segment, and rejects what has none. */
import { DeadlineHeap } from "#wireguard/DeadlineHeap.ts"
import { addressText } from "#wireguard/ip/ipv4.ts"
import { type Ends, flags, Segment, SegmentWriter } from "./segment.ts"
import type { ConnectionOwner, MemoryTotal, TcpHandlers } from "./connectionParts.ts"
import { type PendingSyn, PendingSyns } from "./PendingSyns.ts"
import { TcpConnection } from "./TcpConnection.ts"

/** A connection that a peer asks for. Exactly one of the two methods is called, once. */
export interface IncomingTcp {
  readonly localAddress: string
  readonly remoteAddress: string
  readonly remotePort: number
  /**
   * Sends the SYN-ACK. May be called long after the SYN, whose repetitions are absorbed. `onClose` is called at once if the peer has
   * reset the connection in the meantime.
   */
  accept(now: number, handlers: TcpHandlers): TcpConnection
  /** Answers with RST. */
  reject(now: number): void
}

export interface TcpLimits {
  readonly maxConnections: number
  /** Handshakes that are not complete, from one address and from all. */
  readonly maxPendingPerAddress: number
  readonly maxPending: number
  /** Bytes in the buffers of all connections. Above it new connections and received data are rejected; above half of it windows shrink. */
  readonly maxMemoryBytes: number
  /** Bytes that a peer may send before the application has consumed them. */
  readonly receiveWindow: number
}

export interface TcpCounters {
  segmentsReceived: number
  /** Segments without a connection that were answered with RST. */
  unknown: number
  /** SYNs above a limit, which were dropped or rejected. */
  refused: number
}

const firstEphemeralPort = 32_768
const maxPortAttempts = 64
const smallWindow = 65_536

/** Closed connections that wait for late segments. Above this number the oldest is forgotten. */
const maxTimeWaits = 4_096

export class TcpEndpoints {
  readonly counters: TcpCounters = { segmentsReceived: 0, unknown: 0, refused: 0 }
  readonly #writer: SegmentWriter
  readonly #segment = new Segment()
  readonly #random32: () => number
  readonly #limits: TcpLimits
  readonly #owner: ConnectionOwner<TcpConnection>
  /** By remote address, then by both ports. */
  readonly #connections = new Map<number, Map<number, TcpConnection>>()
  readonly #pending: PendingSyns
  readonly #listeners = new Map<number, (incoming: IncomingTcp) => void>()
  readonly #timers = new DeadlineHeap<TcpConnection>()
  #dirty: Array<TcpConnection> = []
  /** The oldest first. */
  readonly #timeWaits = new Set<TcpConnection>()
  readonly #memory: MemoryTotal = { bytes: 0 }
  #count = 0

  constructor(mtu: number, random32: () => number, limits: TcpLimits, sendPacket: (packet: Buffer) => void) {
    this.#random32 = random32
    this.#limits = limits
    this.#pending = new PendingSyns(limits)
    this.#writer = new SegmentWriter(sendPacket)
    this.#owner = {
      writer: this.#writer,
      mss: mtu - 40,
      memory: this.#memory,
      maxWindow: () =>
        this.#memory.bytes > limits.maxMemoryBytes / 2
          ? Math.min(smallWindow, limits.receiveWindow)
          : limits.receiveWindow,
      isMemoryFull: () => this.#memory.bytes > limits.maxMemoryBytes,
      markDirty: (connection) => {
        if (connection.isDirty) return
        connection.isDirty = true
        this.#dirty.push(connection)
      },
      setDeadline: (connection, deadline) => this.#timers.set(connection, deadline),
      waits: (connection) => this.#wait(connection),
      forget: (connection) => this.#forget(connection)
    }
  }

  /** Connections, and bytes in their buffers. */
  get size(): number {
    return this.#count
  }

  get segmentsSent(): number {
    return this.#writer.sent
  }

  get memoryBytes(): number {
    return this.#memory.bytes
  }

  listen(port: number, onSyn: (incoming: IncomingTcp) => void): () => void {
    if (this.#listeners.has(port)) throw new Error(`TCP port ${port} is in use`)
    this.#listeners.set(port, onSyn)
    return () => void this.#listeners.delete(port)
  }

  /** Returns undefined if no port is free. */
  connect(now: number, to: Omit<Ends, "localPort">, handlers: TcpHandlers): TcpConnection | undefined {
    if (this.#isFull) return undefined
    for (let attempt = 0; attempt < maxPortAttempts; attempt += 1) {
      const localPort = firstEphemeralPort + this.#random32() % (65_536 - firstEphemeralPort)
      if (this.#find(to.remoteAddress, portsKey(localPort, to.remotePort)) !== undefined) continue
      const connection = new TcpConnection(now, this.#owner, { ...to, localPort }, this.#random32(), handlers)
      this.#add(connection)
      connection.open(now)
      return connection
    }
    return undefined
  }

  /** Takes an IPv4 packet with TCP, whose bytes the stack may keep. */
  receive(now: number, packet: Buffer, start: number, end: number): void {
    const segment = this.#segment
    if (!segment.read(packet, start, end)) return
    this.counters.segmentsReceived += 1
    const key = portsKey(segment.destinationPort, segment.sourcePort)
    const connection = this.#find(segment.source, key)
    if (connection !== undefined && connection.ends.localAddress === segment.destination) {
      // A new connection may reuse the ports of one that waits (RFC 6191).
      const isNew = (segment.flags & (flags.syn | flags.ack)) === flags.syn && connection.mayReplace(segment.sequence)
      if (!isNew) return connection.receive(now, segment)
      connection.reset()
    }
    if ((segment.flags & flags.rst) !== 0) return this.#pending.reset(segment, key)
    if ((segment.flags & (flags.syn | flags.ack)) === flags.syn) return this.#receiveSyn(now, segment, key)
    this.#rejectUnknown(segment)
  }

  /** Returns whether there is more to send in another turn. */
  flush(now: number): boolean {
    const dirty = this.#dirty
    this.#dirty = []
    let hasMore = false
    for (const connection of dirty) {
      connection.isDirty = false
      if (connection.output(now)) {
        hasMore = true
        this.#owner.markDirty(connection)
      }
    }
    return hasMore || this.#dirty.length > 0
  }

  get nextTimer(): number {
    return this.#timers.first?.deadline ?? Infinity
  }

  tick(now: number): void {
    for (let first = this.#timers.first; first !== undefined && first.deadline <= now; first = this.#timers.first) {
      this.#timers.set(first, Infinity)
      first.tick(now)
    }
  }

  /** Ends the connections for which `isAffected` returns true. */
  failWhere(isAffected: (ends: Ends) => boolean, code: string, isSilent: boolean): void {
    const affected = [...this.#connections.values()].flatMap((byPorts) =>
      [...byPorts.values()].filter(({ ends }) => isAffected(ends))
    )
    for (const connection of affected) connection.reset(code, isSilent)
    this.#pending.resetWhere(isAffected)
  }

  #receiveSyn(now: number, segment: Segment, key: number): void {
    const listener = this.#listeners.get(segment.destinationPort)
    if (listener === undefined) return this.#rejectUnknown(segment)
    if (this.#pending.renew(segment, key)) return
    if (this.#isFull || this.#pending.isFull(segment.source)) {
      this.counters.refused += 1
      return this.#rejectUnknown(segment)
    }
    listener(this.#incoming(this.#pending.add(segment, endsOf(segment), key)))
  }

  #incoming(pending: PendingSyn): IncomingTcp {
    const { ends, key } = pending
    return {
      localAddress: addressText(ends.localAddress),
      remoteAddress: addressText(ends.remoteAddress),
      remotePort: ends.remotePort,
      accept: (now, handlers) => {
        this.#pending.delete(pending)
        const connection = new TcpConnection(now, this.#owner, ends, this.#random32(), handlers)
        this.#find(ends.remoteAddress, key)?.reset()
        this.#add(connection)
        if (pending.isReset) connection.reset("ECONNRESET", true)
        else connection.open(now, pending.syn)
        return connection
      },
      reject: () => {
        this.#pending.delete(pending)
        if (!pending.isReset) this.#writer.send(ends, 0, pending.syn.sequence + 1, flags.rst | flags.ack, 0, 0)
      }
    }
  }

  /** RFC 9293 section 3.10.7.1. */
  #rejectUnknown(segment: Segment): void {
    if ((segment.flags & flags.rst) !== 0) return
    this.counters.unknown += 1
    const ends = endsOf(segment)
    if ((segment.flags & flags.ack) !== 0) {
      return this.#writer.send(ends, segment.acknowledgement, 0, flags.rst, 0, 0)
    }
    const length = segment.payloadLength + (segment.flags & flags.syn ? 1 : 0) + (segment.flags & flags.fin ? 1 : 0)
    this.#writer.send(ends, 0, segment.sequence + length, flags.rst | flags.ack, 0, 0)
  }

  #find(remoteAddress: number, key: number): TcpConnection | undefined {
    return this.#connections.get(remoteAddress)?.get(key)
  }

  #add(connection: TcpConnection): void {
    const key = portsKey(connection.ends.localPort, connection.ends.remotePort)
    const ofAddress = this.#connections.get(connection.ends.remoteAddress)
    if (ofAddress === undefined) this.#connections.set(connection.ends.remoteAddress, new Map([[key, connection]]))
    else ofAddress.set(key, connection)
    this.#count += 1
  }

  #forget(connection: TcpConnection): void {
    const key = portsKey(connection.ends.localPort, connection.ends.remotePort)
    const ofAddress = this.#connections.get(connection.ends.remoteAddress)
    if (ofAddress?.get(key) !== connection) return
    ofAddress.delete(key)
    if (ofAddress.size === 0) this.#connections.delete(connection.ends.remoteAddress)
    this.#count -= 1
    this.#timeWaits.delete(connection)
  }

  #wait(connection: TcpConnection): void {
    this.#timeWaits.add(connection)
    if (this.#timeWaits.size <= maxTimeWaits) return
    for (const oldest of this.#timeWaits) return oldest.reset()
  }

  get #isFull(): boolean {
    const { maxConnections, maxMemoryBytes } = this.#limits
    return this.#count - this.#timeWaits.size >= maxConnections || this.#memory.bytes > maxMemoryBytes
  }
}

const endsOf = (segment: Segment): Ends => ({
  localAddress: segment.destination,
  localPort: segment.destinationPort,
  remoteAddress: segment.source,
  remotePort: segment.sourcePort
})

const portsKey = (localPort: number, remotePort: number): number => localPort * 65_536 + remotePort
