/** Parts of a TCP connection: callbacks, the peer's SYN, sequence numbers, memory, and small timers. */
import { defaultMss, type Segment, type SegmentWriter } from "./segment.ts"

/** Callbacks of the application. They may call the connection's methods. */
export interface TcpHandlers {
  onConnect(): void
  /** Bytes in order, each once. The application may keep the buffer. */
  onData(chunk: Buffer): void
  /** The peer has ended its direction, after all data. */
  onEnd(): void
  /** The send buffer has room again after `write` has returned false. */
  onDrain(): void
  /**
   * The last call. Undefined after an orderly end of both directions or after the own `reset`, otherwise `ECONNREFUSED`, `ECONNRESET`,
   * `ETIMEDOUT` or `EHOSTUNREACH`.
   */
  onClose(code: string | undefined): void
}

/** What a connection needs of its stack. */
export interface ConnectionOwner<Connection> {
  readonly writer: SegmentWriter
  readonly mss: number
  /** Largest receive window and bytes in flight of one connection at this moment. */
  readonly maxWindow: () => number
  /** Received data is dropped, because all connections together hold too much. */
  readonly isMemoryFull: () => boolean
  readonly memory: MemoryTotal
  /** `flush` will call `output`. */
  readonly markDirty: (connection: Connection) => void
  readonly setDeadline: (connection: Connection, deadline: number) => void
  /** The connection is closed and waits for late segments. It may be forgotten early. */
  readonly waits: (connection: Connection) => void
  readonly forget: (connection: Connection) => void
}

/** Bytes in the buffers of all connections. */
export interface MemoryTotal {
  bytes: number
}

/** Part of one connection in the total. */
export class MemoryShare {
  readonly #total: MemoryTotal
  #bytes = 0

  constructor(total: MemoryTotal) {
    this.#total = total
  }

  set(bytes: number): void {
    this.#total.bytes += bytes - this.#bytes
    this.#bytes = bytes
  }
}

/** Makes a writer wait if it has written more than a quarter of the largest window that is not sent. */
export class WriteLimit {
  readonly #maxWindow: () => number
  #isWaiting = false

  constructor(maxWindow: () => number) {
    this.#maxWindow = maxWindow
  }

  /** Returns false if the writer must wait. */
  mayContinue(unsent: number): boolean {
    this.#isWaiting ||= unsent >= this.#maxWindow() / 4
    return !this.#isWaiting
  }

  /** Returns true once, when a waiting writer may continue. */
  drains(unsent: number): boolean {
    if (!this.#isWaiting || unsent >= this.#maxWindow() / 8) return false
    this.#isWaiting = false
    return true
  }
}

/** Options and numbers of the peer's SYN. */
export interface PeerSyn {
  readonly sequence: number
  readonly mss: number
  readonly windowShift: number
  readonly isSackPermitted: boolean
  readonly window: number
}

export const peerSynOf = (segment: Segment): PeerSyn => ({
  sequence: segment.sequence,
  mss: segment.mss === 0 ? defaultMss : Math.max(64, segment.mss),
  windowShift: segment.windowShift,
  isSackPermitted: segment.isSackPermitted,
  window: segment.window
})

/** Sequence numbers of both directions as positions: the SYN of a direction is 0, its first byte 1. Positions do not wrap. */
export class SequenceNumbers {
  readonly local: number
  remote = 0

  constructor(local: number) {
    this.local = local
  }

  /** Position of a sequence number of the peer that is near `position`. */
  remotePosition(sequence: number, position: number): number {
    return position + ((sequence - this.remote - position) | 0)
  }

  /** Position of an acknowledgement number that is near `position`. */
  localPosition(acknowledgement: number, position: number): number {
    return position + ((acknowledgement - this.local - position) | 0)
  }
}

/** Positions of SACK blocks between the acknowledgement and `end`. Blocks below report duplicates (RFC 2883). */
export const sackOf = (
  segment: Segment,
  numbers: SequenceNumbers,
  acknowledged: number,
  end: number
): ReadonlyArray<number> => {
  if (segment.sackCount === 0) return noBlocks
  const blocks: Array<number> = []
  for (let pair = 0; pair < segment.sackCount; pair += 1) {
    const from = numbers.localPosition(segment.sack[2 * pair]!, acknowledged)
    const to = numbers.localPosition(segment.sack[2 * pair + 1]!, acknowledged)
    if (from >= acknowledged && to > from && to <= end) blocks.push(from, to)
  }
  return blocks
}

const noBlocks: ReadonlyArray<number> = []

const ackDelayMillis = 25

/** Challenge acknowledgements are at least this far apart (RFC 5961 section 7). */
const minChallengeMillis = 100

/** When to acknowledge (RFC 5681 section 4.2): at once, with every second segment, or after a delay. */
export class AckTimer {
  at = Infinity
  #mustAck = false
  #segments = 0
  #lastChallenge = -Infinity

  get isDue(): boolean {
    return this.#mustAck || this.#segments >= 2
  }

  now(): void {
    this.#mustAck = true
  }

  segmentReceived(): void {
    this.#segments += 1
  }

  challenge(now: number): void {
    if (now - this.#lastChallenge < minChallengeMillis) return
    this.#lastChallenge = now
    this.#mustAck = true
  }

  /** Starts the delay for a lone segment. */
  schedule(now: number): void {
    if (this.#segments > 0 && this.at === Infinity) this.at = now + ackDelayMillis
  }

  sent(): void {
    this.#mustAck = false
    this.#segments = 0
    this.at = Infinity
  }
}

const initialSynMillis = 500
const maxSynMillis = 8_000

/** Attempts to complete an incoming handshake: 0.5 + 1 + 2 + 4 + 8 s. */
const maxAttempts = 6

/** Repeats a SYN or SYN-ACK. */
export class SynTimer {
  at = Infinity
  #attempts = 0
  #sentAt = 0

  get isExhausted(): boolean {
    return this.#attempts >= maxAttempts
  }

  sent(now: number): void {
    this.at = now + Math.min(maxSynMillis, initialSynMillis * 2 ** this.#attempts)
    this.#attempts += 1
    this.#sentAt = now
  }

  /** Ends the timer. Returns the round-trip time if the SYN was sent once. */
  answered(now: number): number | undefined {
    this.at = Infinity
    return this.#attempts === 1 ? now - this.#sentAt : undefined
  }
}

const probeIntervalMillis = 15_000
const maxProbes = 4

/** Finds out that an idle peer is gone (RFC 9293 section 3.8.4). */
export class KeepAlive {
  /** 0 turns it off. */
  idleMillis = 0
  #lastHeard: number
  #lastProbe = 0
  #probes = 0

  constructor(now: number) {
    this.#lastHeard = now
  }

  get at(): number {
    if (this.idleMillis === 0) return Infinity
    return this.#probes === 0 ? this.#lastHeard + this.idleMillis : this.#lastProbe + probeIntervalMillis
  }

  heard(now: number): void {
    this.#lastHeard = now
    this.#probes = 0
  }

  /** Returns false if the peer has not answered the last probes. */
  probe(now: number): boolean {
    this.#probes += 1
    this.#lastProbe = now
    return this.#probes <= maxProbes
  }
}
