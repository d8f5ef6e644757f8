/** Segments on their way: which are delivered, which are lost (RACK, RFC 8985), and the bytes in flight. */

/** Losses are few up to this share of the segments, as in BBR version 2. */
const fewLosses = 0.02

/** Segments after which older losses and deliveries count half. */
const lossWindow = 512

export interface SentRange {
  start: number
  end: number
  sentAt: number
  isResent: boolean
  isSacked: boolean
  isLost: boolean
}

export class Flight {
  /** Bytes that are neither delivered nor lost. */
  bytes = 0
  lostCount = 0
  sackedCount = 0
  #ranges: Array<SentRange> = []
  #head = 0
  /** Send time and end of the delivered segment that was sent last. */
  #rackSentAt = -Infinity
  #rackEnd = 0
  #rackRtt = 0
  /** Highest position that was delivered, and whether a lower one has arrived later without a retransmission. */
  #highest = 0
  #isReordered = false
  #lastSentAt = 0
  #recentDelivered = 0
  #recentLost = 0

  /** Whether random faults of the path explain the recent losses. */
  get hasFewLosses(): boolean {
    return this.#recentLost <= 1 + fewLosses * this.#recentDelivered
  }

  get size(): number {
    return this.#ranges.length - this.#head
  }

  get lastSentAt(): number {
    return this.#lastSentAt
  }

  /** Length of the first segment; 0 if there is none. */
  get firstLength(): number {
    const first = this.#ranges[this.#head]
    return first === undefined ? 0 : first.end - first.start
  }

  /** The last segment that is not delivered. */
  get last(): SentRange | undefined {
    for (let index = this.#ranges.length - 1; index >= this.#head; index -= 1) {
      const range = this.#ranges[index]!
      if (!range.isSacked) return range
    }
    return undefined
  }

  add(now: number, start: number, end: number): void {
    this.#ranges.push({ start, end, sentAt: now, isResent: false, isSacked: false, isLost: false })
    this.bytes += end - start
    this.#lastSentAt = now
  }

  /** Records what the peer has received. Returns a sample of the round-trip time, if there is one. */
  deliver(now: number, position: number, sack: ReadonlyArray<number>, minRtt: number): number | undefined {
    let sample: number | undefined
    while (this.#head < this.#ranges.length) {
      const range = this.#ranges[this.#head]!
      if (range.end > position) {
        if (range.start < position) this.#trim(range, position)
        break
      }
      if (!range.isSacked) sample = this.#delivered(now, range, minRtt) ?? sample
      if (range.isSacked) this.sackedCount -= 1
      this.#head += 1
    }
    if (this.#head > 64 && this.#head * 2 > this.#ranges.length) {
      this.#ranges = this.#ranges.slice(this.#head)
      this.#head = 0
    } else if (this.#head === this.#ranges.length) {
      this.#ranges = []
      this.#head = 0
    }
    for (let pair = 0; pair < sack.length; pair += 2) {
      sample = this.#deliverBlock(now, sack[pair]!, sack[pair + 1]!, minRtt) ?? sample
    }
    return sample
  }

  /**
   * Marks segments as lost that were sent a reordering window before a delivered one. Returns when to look again; Infinity if no
   * segment is in doubt.
   */
  detectLosses(now: number, minRtt: number, isRecovering: boolean): number {
    const isSure = !this.#isReordered && (isRecovering || this.sackedCount >= 3)
    const window = isSure || minRtt === Infinity ? 0 : minRtt / 4
    let next = Infinity
    for (let index = this.#head; index < this.#ranges.length; index += 1) {
      const range = this.#ranges[index]!
      if (range.isSacked || range.isLost) continue
      const isOlder = range.sentAt < this.#rackSentAt || range.sentAt === this.#rackSentAt && range.end < this.#rackEnd
      if (!isOlder) continue
      const due = range.sentAt + this.#rackRtt + window
      if (due <= now) {
        this.#lose(range)
        this.#recentLost += 1
      } else next = Math.min(next, due)
    }
    return next
  }

  markFirstLost(): void {
    const first = this.#ranges[this.#head]
    if (first !== undefined && !first.isSacked && !first.isLost) this.#lose(first)
  }

  /** A segment that was resent less than a round trip ago may still arrive. */
  markFirstLostIfOld(now: number, rtt: number): void {
    const first = this.#ranges[this.#head]
    if (first !== undefined && now - first.sentAt >= rtt) this.markFirstLost()
  }

  /** The timeout has passed. A sacked first segment shows a peer that has dropped what it had. */
  markAllLost(): void {
    const hasReneged = this.#ranges[this.#head]?.isSacked === true
    for (let index = this.#head; index < this.#ranges.length; index += 1) {
      const range = this.#ranges[index]!
      if (hasReneged && range.isSacked) {
        range.isSacked = false
        this.sackedCount -= 1
        this.bytes += range.end - range.start
      }
      if (!range.isSacked && !range.isLost) this.#lose(range)
    }
  }

  /** The first lost segment, split if it is longer than `maxLength`. */
  firstLost(maxLength: number): SentRange | undefined {
    for (let index = this.#head; index < this.#ranges.length; index += 1) {
      const range = this.#ranges[index]!
      if (!range.isLost) continue
      if (range.end - range.start > maxLength) {
        this.#ranges.splice(index + 1, 0, { ...range, start: range.start + maxLength })
        this.lostCount += 1
        range.end = range.start + maxLength
      }
      return range
    }
    return undefined
  }

  resent(now: number, range: SentRange): void {
    range.isLost = false
    this.lostCount -= 1
    this.bytes += range.end - range.start
    this.repeated(now, range)
  }

  /** The segment was sent again, although it is not lost. */
  repeated(now: number, range: SentRange): void {
    range.isResent = true
    range.sentAt = now
    this.#lastSentAt = now
  }

  clear(): void {
    this.#ranges = []
    this.#head = 0
    this.bytes = 0
    this.lostCount = 0
    this.sackedCount = 0
  }

  #lose(range: SentRange): void {
    range.isLost = true
    this.lostCount += 1
    this.bytes -= range.end - range.start
  }

  #trim(range: SentRange, position: number): void {
    if (!range.isSacked && !range.isLost) this.bytes -= position - range.start
    range.start = position
  }

  #deliverBlock(now: number, from: number, to: number, minRtt: number): number | undefined {
    let sample: number | undefined
    let low = this.#head
    let high = this.#ranges.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#ranges[middle]!.start < from) low = middle + 1
      else high = middle
    }
    for (let index = low; index < this.#ranges.length; index += 1) {
      const range = this.#ranges[index]!
      if (range.end > to) break
      if (range.isSacked) continue
      sample = this.#delivered(now, range, minRtt) ?? sample
      range.isSacked = true
      this.sackedCount += 1
    }
    return sample
  }

  /** Takes the segment out of the flight. A segment that was sent twice gives no sample (Karn). */
  #delivered(now: number, range: SentRange, minRtt: number): number | undefined {
    if (range.isLost) {
      range.isLost = false
      this.lostCount -= 1
    } else this.bytes -= range.end - range.start
    if (range.end < this.#highest && !range.isResent) this.#isReordered = true
    this.#highest = Math.max(this.#highest, range.end)
    this.#recentDelivered += 1
    if (this.#recentDelivered >= lossWindow) {
      this.#recentDelivered /= 2
      this.#recentLost /= 2
    }
    const rtt = now - range.sentAt
    // An answer that is faster than the path belongs to the first transmission.
    if (!range.isResent || rtt >= minRtt) {
      if (range.sentAt > this.#rackSentAt || range.sentAt === this.#rackSentAt && range.end > this.#rackEnd) {
        this.#rackSentAt = range.sentAt
        this.#rackEnd = range.end
        this.#rackRtt = rtt
      }
    }
    return range.isResent ? undefined : rtt
  }
}
