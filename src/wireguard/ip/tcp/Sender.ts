/** Sending half of a connection: windows, loss detection (RACK-TLP, RFC 8985) and retransmission. Positions: the SYN is 0. */
import { Cubic } from "./Cubic.ts"
import { Flight, type SentRange } from "./Flight.ts"
import { RoundTrip } from "./RoundTrip.ts"
import { SendBuffer } from "./SendBuffer.ts"

/** Segments in one turn of the event loop, so that one connection does not overflow the receiver's UDP buffer. */
const maxBurst = 48

/** Time without any progress after which the connection fails (RFC 9293 section 3.8.3, user timeout). */
const giveUpMillis = 60_000

/** A receiver delays a lone acknowledgement for this time at most. */
const maxAckDelayMillis = 30
const minProbeMillis = 10
const maxPersistMillis = 30_000

/** Smallest segment that is tried if larger ones vanish on the way (RFC 4821). */
const minMss = 512

/** Sends one segment of the stream, or the FIN if the length is 0. */
export type Transmit = (position: number, length: number, isFin: boolean) => void

export class Sender {
  readonly buffer = new SendBuffer(1)
  readonly #rtt = new RoundTrip()
  readonly #flight = new Flight()
  readonly #cubic: Cubic
  /** Position of the first byte that is not acknowledged, and of the next one that was never sent. */
  una = 0
  nxt = 0
  mss: number
  /** Position of the FIN; undefined until the application has ended the stream. */
  fin: number | undefined
  #windowEdge = 1
  #isRecovering = false
  /** The recovery began with a timeout, so that the window grows from one segment by slow start. */
  #hasTimedOut = false
  #recoveryPoint = 0
  #isLimitedByCwnd = false
  /** Start of the retransmission timer. */
  #timerStart = 0
  #progressAt = 0
  #timeouts = 0
  #duplicates = 0
  #hasProbed = false
  #persistMillis = 0
  #persistAt = Infinity
  #reorderAt = Infinity

  constructor(mss: number) {
    this.mss = mss
    this.#cubic = new Cubic(mss)
  }

  get isFinAcknowledged(): boolean {
    return this.fin !== undefined && this.una > this.fin
  }

  /** Bytes that were written and never sent. */
  get unsentBytes(): number {
    return this.buffer.end - Math.max(1, this.nxt)
  }

  /** End of the stream with its FIN. */
  get #unsentEnd(): number {
    return this.fin === undefined ? this.buffer.end : this.fin + 1
  }

  setMss(mss: number): void {
    this.mss = mss
    this.#cubic.setMss(mss)
  }

  /** The handshake is complete: the SYN is acknowledged. */
  begin(now: number, window: number, rttSample: number | undefined): void {
    this.una = 1
    this.nxt = Math.max(this.nxt, 1)
    this.#windowEdge = 1 + window
    this.#progressAt = now
    if (rttSample !== undefined) this.#rtt.sample(rttSample)
  }

  end(): void {
    this.fin ??= this.buffer.end
  }

  /**
   * Processes an acknowledgement up to `position` (at most `nxt`). `window`: bytes, scaled. `sack`: pairs of positions. `isPure`: the
   * segment has no payload.
   */
  acknowledge(now: number, position: number, window: number, sack: ReadonlyArray<number>, isPure: boolean): void {
    const edge = position + window
    const isSameWindow = edge === this.#windowEdge
    if (edge > this.#windowEdge) this.#persistMillis = 0
    this.#windowEdge = Math.max(edge, position)
    const sample = this.#flight.deliver(now, position, sack, this.#rtt.minimum)
    if (sample !== undefined) this.#rtt.sample(sample)
    if (position > this.una) this.#advance(now, position)
    else if (isPure && isSameWindow && position === this.una && sack.length === 0 && this.#flight.size > 0) {
      // A peer without SACK shows a loss by duplicate acknowledgements (RFC 5681).
      this.#duplicates += 1
      if (this.#duplicates === 3) this.#flight.markFirstLost()
    }
    if (this.#flight.sackedCount > 0 || this.#isRecovering) {
      this.#reorderAt = this.#flight.detectLosses(now, this.#rtt.minimum, this.#isRecovering)
    }
    if (this.#flight.lostCount > 0 && !this.#isRecovering) {
      this.#isRecovering = true
      this.#recoveryPoint = this.nxt
      this.#cubic.lost()
    }
  }

  /** Sends what the windows allow, with at most `maxFlight` bytes that are not acknowledged. Returns whether more could be sent in another turn. */
  output(now: number, maxPayload: number, maxFlight: number, transmit: Transmit): boolean {
    let budget = maxBurst
    const edge = Math.min(this.#windowEdge, this.una + maxFlight)
    this.#isLimitedByCwnd = false
    while (this.#flight.lostCount > 0 && budget > 0) {
      const range = this.#flight.firstLost(maxPayload)
      if (range === undefined) break
      if (this.#flight.bytes > 0 && this.#flight.bytes + (range.end - range.start) > this.#cubic.window) {
        this.#isLimitedByCwnd = true
        return false
      }
      this.#resend(now, range, transmit)
      budget -= 1
    }
    while (budget > 0 && this.#sendNew(now, maxPayload, edge, transmit)) budget -= 1
    this.#setPersist(now)
    return budget === 0
  }

  /** Time of the next action; Infinity if there is none. */
  get deadline(): number {
    const outstanding = this.#flight.size === 0
      ? Infinity
      : Math.min(this.#probeAt, this.#timerStart + this.#rtt.timeout)
    return Math.min(outstanding, this.#reorderAt, this.#persistAt)
  }

  /** Acts on a deadline. Returns `dead` if the peer has not answered for too long, `persist` if a window probe is due. */
  tick(now: number, transmit: Transmit): "dead" | "persist" | undefined {
    if (now >= this.#persistAt) {
      if (now - this.#progressAt > giveUpMillis) return "dead"
      this.#persistMillis = Math.min(maxPersistMillis, Math.max(this.#rtt.timeout, this.#persistMillis * 2))
      this.#persistAt = now + this.#persistMillis
      return "persist"
    }
    if (now >= this.#reorderAt) {
      this.#reorderAt = this.#flight.detectLosses(now, this.#rtt.minimum, this.#isRecovering)
      if (this.#flight.lostCount > 0 && !this.#isRecovering) {
        this.#isRecovering = true
        this.#recoveryPoint = this.nxt
        this.#cubic.lost()
      }
    }
    if (this.#flight.size === 0) return undefined
    if (now >= this.#timerStart + this.#rtt.timeout) return this.#timedOut(now)
    if (now >= this.#probeAt) this.#probe(now, transmit)
    return undefined
  }

  /** The peer answers, although its window is closed. */
  heard(now: number): void {
    if (this.#persistAt !== Infinity) this.#progressAt = now
  }

  clear(): void {
    this.buffer.clear()
    this.#flight.clear()
    this.#persistAt = Infinity
    this.#reorderAt = Infinity
  }

  #advance(now: number, position: number): void {
    const bytes = position - this.una
    this.una = position
    this.buffer.release(position)
    this.#timerStart = now
    this.#progressAt = now
    this.#timeouts = 0
    this.#duplicates = 0
    this.#hasProbed = false
    this.#rtt.resetBackoff()
    if (this.#isRecovering && position >= this.#recoveryPoint) {
      this.#isRecovering = false
      this.#hasTimedOut = false
      this.#reorderAt = Infinity
    } else if (this.#isRecovering) {
      // NewReno (RFC 6582): a partial acknowledgement shows the next loss. With SACK, RACK has found it already.
      if (this.#flight.sackedCount === 0 && this.#flight.lostCount === 0)
        this.#flight.markFirstLostIfOld(now, this.#rtt.smoothed)
    }
    if ((!this.#isRecovering || this.#hasTimedOut) && this.#isLimitedByCwnd)
      this.#cubic.acknowledged(now, bytes, this.#rtt.smoothed)
  }

  #sendNew(now: number, maxPayload: number, edge: number, transmit: Transmit): boolean {
    const data = Math.min(maxPayload, this.buffer.end - this.nxt)
    const isFin = data <= 0 && this.fin !== undefined && this.nxt === this.fin
    if (data <= 0 && !isFin) return false
    const room = edge - this.nxt
    const length = isFin ? 1 : Math.min(data, room)
    // Silly windows (RFC 9293 section 3.8.6.2.1): a part of a segment is sent only if nothing is on its way.
    if (!isFin && (length <= 0 || length < data && this.#flight.size > 0)) return false
    if (this.#flight.bytes > 0 && this.#flight.bytes + length > this.#cubic.window) {
      this.#isLimitedByCwnd = true
      return false
    }
    // The flight grows to the window with this segment, so that acknowledgements of it may widen the window.
    if (this.#flight.bytes + 2 * length > this.#cubic.window) this.#isLimitedByCwnd = true
    if (this.#flight.size === 0) {
      this.#timerStart = now
      this.#progressAt = now
    }
    transmit(this.nxt, isFin ? 0 : length, isFin)
    this.#flight.add(now, this.nxt, this.nxt + length)
    this.nxt += length
    return true
  }

  #resend(now: number, range: SentRange, transmit: Transmit): void {
    if (range.start === this.una) this.#timerStart = now
    const isFin = range.start === this.fin
    transmit(range.start, isFin ? 0 : range.end - range.start, isFin)
    this.#flight.resent(now, range)
  }

  #timedOut(now: number): "dead" | undefined {
    if (now - this.#progressAt > giveUpMillis) return "dead"
    if (this.#timeouts === 0) this.#cubic.timedOut(this.#flight.bytes)
    this.#timeouts += 1
    // Large segments that vanish again and again do not fit through the path.
    if (this.#timeouts >= 2 && this.#flight.firstLength > minMss) {
      this.setMss(Math.max(minMss, Math.floor(Math.min(this.mss, this.#flight.firstLength) / 2)))
    }
    this.#rtt.backOff()
    this.#flight.markAllLost()
    this.#isRecovering = true
    this.#hasTimedOut = true
    this.#recoveryPoint = this.nxt
    this.#timerStart = now
    this.#reorderAt = Infinity
    return undefined
  }

  /** Tail loss probe: repeats the last segment, so that its acknowledgement shows earlier losses before the timeout. */
  get #probeAt(): number {
    if (this.#hasProbed || this.#isRecovering || this.#flight.lostCount > 0 || !this.#rtt.hasSample) return Infinity
    const delay = this.#flight.size === 1 ? maxAckDelayMillis : 0
    return this.#flight.lastSentAt + Math.max(minProbeMillis, 2 * this.#rtt.smoothed) + delay
  }

  #probe(now: number, transmit: Transmit): void {
    this.#hasProbed = true
    const last = this.#flight.last
    if (last === undefined) return
    const isFin = last.start === this.fin
    transmit(last.start, isFin ? 0 : last.end - last.start, isFin)
    this.#flight.repeated(now, last)
    this.#timerStart = now
  }

  /** A closed window is probed, because the acknowledgement that opens it can be lost (RFC 9293 section 3.8.6.1). */
  #setPersist(now: number): void {
    const isBlocked = this.#flight.size === 0 && this.#unsentEnd > this.nxt && this.una > 0
    if (!isBlocked) {
      this.#persistAt = Infinity
      this.#persistMillis = 0
    } else if (this.#persistAt === Infinity) {
      this.#progressAt = now
      this.#persistAt = now + this.#rtt.timeout
    }
  }
}
