/** Receiving half of a connection: order, window and SACK blocks. Positions count bytes from the peer's SYN, which is 0. */

/** A small segment is charged this many bytes, because its buffer and its bookkeeping cost more than its payload. */
const minSegmentCost = 256

/** Window before the application has consumed anything. It doubles each time that the application has consumed a full one. */
const initialWindow = 128 * 1024

/** The window grows by this number of bytes at least, so that a slow reader causes no tiny segments (RFC 9293 section 3.8.6.2.2). */
const minWindowStep = 1_200

/** Segments that wait for an earlier one. */
const maxLateSegments = 2_048

interface LateSegment {
  readonly start: number
  readonly bytes: Buffer
}

/** Small payloads are copied, because they would keep the whole datagram in memory, which a peer can make large by padding. */
const ownBytes = (bytes: Buffer): Buffer =>
  bytes.buffer.byteLength > 2 * bytes.length + minSegmentCost ? Buffer.from(bytes) : bytes

export class Receiver {
  /** Position of the next byte. */
  next = 1
  readonly #maxWindow: () => number
  readonly #isMemoryFull: () => boolean
  #capacity = initialWindow
  #shift = 0
  /** Bytes that a window field without scale can express; Infinity with scale. */
  #fieldLimit = 0xffff
  /** Bytes consumed since the window has grown. */
  #consumed = 0
  /** Position after the last byte that the peer may send. It never moves back. */
  #edge = 0
  /** Position of the FIN; Infinity before it has arrived. */
  #streamEnd = Infinity
  /** Bytes that the application has and has not consumed, and what they are charged. */
  #unconsumed = 0
  #unconsumedCost = 0
  /** Sorted and disjoint. */
  #late: Array<LateSegment> = []
  #lateBytes = 0
  /** Merged ranges of the late segments, as pairs of positions; the newest range first. */
  #ranges: Array<{ start: number; end: number }> = []

  /** `maxWindow`: largest window in bytes at this moment. */
  constructor(maxWindow: () => number, isMemoryFull: () => boolean) {
    this.#maxWindow = maxWindow
    this.#isMemoryFull = isMemoryFull
  }

  /** `shift`: window scale that the peer was sent. 0 means that the peer does not scale. */
  setScale(shift: number): void {
    this.#shift = shift
    this.#fieldLimit = shift === 0 ? 0xffff : Infinity
  }

  get edge(): number {
    return this.#edge
  }

  /** Whether a segment begins after the window. */
  isBeyond(start: number, length: number): boolean {
    return start > this.#edge || start === this.#edge && length > 0
  }

  /** Whether a segment has nothing new. */
  isOld(start: number, length: number): boolean {
    return start < this.next && (length === 0 || start + length <= this.next)
  }

  /** Bytes in memory. */
  get memory(): number {
    return Math.ceil(this.#unconsumedCost) + this.#lateBytes
  }

  get hasLate(): boolean {
    return this.#late.length > 0
  }

  /** Whether the peer should learn of a wider window without waiting for its next segment. */
  get needsWindowUpdate(): boolean {
    return this.#possibleEdge - this.#edge >= this.#window / 4
  }

  get #window(): number {
    return Math.min(this.#capacity, this.#fieldLimit, this.#maxWindow())
  }

  get #possibleEdge(): number {
    return this.next + this.#window - Math.ceil(this.#unconsumedCost)
  }

  /** The window to send, scaled, which fixes the edge. A SYN has no scale. */
  advertise(isSyn: boolean): number {
    const unit = isSyn ? 1 : 2 ** this.#shift
    const possible = this.#possibleEdge
    const grows = possible - this.#edge >= Math.min(minWindowStep, this.#window / 2)
    // Rounded up where the window stays, because the right edge must never move back (RFC 7323 section 2.4).
    const units = grows ? Math.floor((possible - this.next) / unit) : Math.ceil((this.#edge - this.next) / unit)
    const window = Math.max(0, Math.min(0xffff, units))
    this.#edge = Math.max(this.#edge, this.next + window * unit)
    return window
  }

  /**
   * Accepts bytes from `start`, cut to the window, and hands those that are in order to `deliver`. Returns whether `next` has moved.
   * The buffers are kept while they wait.
   */
  insert(start: number, bytes: Buffer, deliver: (bytes: Buffer) => void): boolean {
    const from = Math.max(start, this.next)
    const to = Math.min(start + bytes.length, this.#edge, this.#streamEnd)
    // A peer that fills the memory, alone with tiny segments or together with others, must send them again later.
    if (to <= from || this.#unconsumedCost > 2 * this.#capacity || this.#isMemoryFull()) return false
    const part = ownBytes(bytes.subarray(from - start, to - start))
    if (from > this.next) {
      if (this.#late.length < maxLateSegments) this.#insertLate(from, part)
      return false
    }
    this.#deliver(part, deliver)
    if (this.#late.length > 0) this.#deliverLate(deliver)
    return true
  }

  /** The FIN is at this position. Later bytes do not belong to the stream. */
  endAt(end: number): void {
    if (this.#streamEnd !== Infinity || end < this.next) return
    this.#streamEnd = end
    const late = this.#late.filter(({ start }) => start < end)
    this.clear()
    for (const { bytes, start } of late) this.#insertLate(start, bytes.subarray(0, end - start))
  }

  /** Returns true once, when all bytes before the FIN have been delivered. */
  takeEnd(): boolean {
    if (this.next !== this.#streamEnd) return false
    this.next += 1
    return true
  }

  consumed(bytes: number): void {
    if (this.#unconsumed <= 0) return
    const share = Math.min(1, bytes / this.#unconsumed)
    this.#unconsumedCost -= this.#unconsumedCost * share
    this.#unconsumed = Math.max(0, this.#unconsumed - bytes)
    this.#consumed += bytes
    if (this.#consumed < this.#capacity) return
    this.#consumed = 0
    this.#capacity = Math.min(2 * this.#capacity, Math.max(this.#capacity, this.#maxWindow()))
  }

  /** Edges of up to `max` SACK blocks, the newest block first (RFC 2018 section 4). */
  sackEdges(max: number): Array<number> {
    return this.#ranges.slice(0, max).flatMap(({ end, start }) => [start, end])
  }

  /** Forgets everything that waits, because the connection has ended. */
  clear(): void {
    this.#late = []
    this.#lateBytes = 0
    this.#ranges = []
  }

  #deliver(bytes: Buffer, deliver: (bytes: Buffer) => void): void {
    this.next += bytes.length
    this.#unconsumed += bytes.length
    this.#unconsumedCost += Math.max(minSegmentCost, bytes.length)
    deliver(bytes)
  }

  #deliverLate(deliver: (bytes: Buffer) => void): void {
    // The application can reset the connection in each call, which clears the list.
    while (this.#late.length > 0 && this.#late[0]!.start <= this.next) {
      const { bytes, start } = this.#late.shift()!
      this.#lateBytes -= Math.max(minSegmentCost, bytes.length)
      const skip = this.next - start
      if (skip < bytes.length) this.#deliver(skip === 0 ? bytes : bytes.subarray(skip), deliver)
    }
    if (this.#ranges.length > 0) this.#ranges = this.#ranges.filter(({ end }) => end > this.next)
  }

  /** Keeps the parts that no late segment has yet. */
  #insertLate(start: number, bytes: Buffer): void {
    const end = start + bytes.length
    let index = this.#late.length
    while (index > 0 && this.#late[index - 1]!.start >= start) index -= 1
    let from = start
    const before = this.#late[index - 1]
    if (before !== undefined) from = Math.max(from, before.start + before.bytes.length)
    while (from < end) {
      const after = this.#late[index]
      const to = after === undefined ? end : Math.min(end, after.start)
      if (to > from) {
        const part = bytes.subarray(from - start, to - start)
        this.#late.splice(index, 0, { start: from, bytes: part })
        this.#lateBytes += Math.max(minSegmentCost, part.length)
        index += 1
      }
      if (after === undefined) break
      from = Math.max(from, after.start + after.bytes.length)
      index += 1
    }
    this.#addRange(start, end)
  }

  #addRange(start: number, end: number): void {
    const range = { start, end }
    const others = this.#ranges.filter((other) => {
      if (other.end < range.start || other.start > range.end) return true
      range.start = Math.min(range.start, other.start)
      range.end = Math.max(range.end, other.end)
      return false
    })
    this.#ranges = [range, ...others]
  }
}
