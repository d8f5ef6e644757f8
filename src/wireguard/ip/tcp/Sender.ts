/** Sending half of a connection: windows, loss detection (RACK-TLP, RFC 8985) and retransmission. Positions: the SYN is 0. */
import { Cubic } from "./Cubic.ts"
import { Flight, type SentRange } from "./Flight.ts"
import { Patience, PersistTimer } from "./Patience.ts"
import { PeerWindow } from "./PeerWindow.ts"
import { RoundTrip } from "./RoundTrip.ts"
import { SegmentSize } from "./SegmentSize.ts"
import { SendBuffer } from "./SendBuffer.ts"

/** Segments in one turn of the event loop, so that one connection does not overflow the receiver's UDP buffer. */
const maxBurst = 48

/** A receiver delays a lone acknowledgement for this time at most. */
const maxAckDelayMillis = 30
const minProbeMillis = 10

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
  /** Position of the FIN; undefined until the application has ended the stream. */
  fin: number | undefined
  readonly #window = new PeerWindow()
  readonly #size: SegmentSize
  #isRecovering = false
  /** The recovery has narrowed the congestion window, because its losses show congestion. */
  #isCongested = false
  /** The recovery began with a timeout, so that the window grows from one segment by slow start. */
  #hasTimedOut = false
  #recoveryPoint = 0
  #isLimitedByCwnd = false
  /** Start of the retransmission timer. */
  #timerStart = 0
  readonly #patience = new Patience()
  readonly #persist = new PersistTimer()
  #duplicates = 0
  #hasProbed = false
  #reorderAt = Infinity

  constructor(mss: number) {
    this.#size = new SegmentSize(mss)
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

  /** Payload of a full segment, without options. */
  get mss(): number {
    return this.#size.bytes
  }

  /** Sets the payload that both ends accept, before any byte is sent. */
  setMss(mss: number): void {
    this.#size.setFull(mss)
    this.#cubic.begin(mss)
  }

  /** The handshake is complete: the SYN is acknowledged. */
  begin(now: number, window: number, rttSample: number | undefined): void {
    this.una = 1
    this.nxt = Math.max(this.nxt, 1)
    this.#window.begin(1 + window, 0)
    this.#patience.progress(now)
    if (rttSample !== undefined) this.#rtt.sample(rttSample)
  }

  end(): void {
    this.fin ??= this.buffer.end
  }

  /**
   * Processes an acknowledgement up to `position` (at most `nxt`). `start`: position of the segment in the peer's stream. `window`:
   * bytes, scaled. `sack`: pairs of positions. `isPure`: the segment has no payload.
   */
  acknowledge(
    now: number,
    start: number,
    position: number,
    window: number,
    sack: ReadonlyArray<number>,
    isPure: boolean
  ): void {
    const isSameWindow = this.#window.update(start, position + window, position > this.una)
    const sample = this.#flight.deliver(now, position, sack, this.#rtt.minimum)
    if (sample !== undefined) this.#rtt.sample(sample)
    if (position > this.una) this.#advance(now, position)
    else if (isPure && isSameWindow && position === this.una && sack.length === 0 && this.#flight.size > 0) {
      // A peer without SACK shows a loss by duplicate acknowledgements (RFC 5681).
      this.#duplicates += 1
      if (this.#duplicates === 3) this.#flight.markFirstLost()
    }
    if (this.#flight.sackedCount > 0 || this.#isRecovering) this.#findLosses(now)
    else if (this.#flight.lostCount > 0) this.#recover()
  }

  /**
   * Sends what the windows allow, with at most `maxFlight` bytes that are not acknowledged. `options`: bytes of the options in each
   * segment. Returns whether more could be sent in another turn.
   */
  output(now: number, options: number, maxFlight: number, transmit: Transmit): boolean {
    let budget = maxBurst
    const edge = Math.min(this.#window.edge, this.una + maxFlight)
    this.#isLimitedByCwnd = false
    while (this.#flight.lostCount > 0 && budget > 0) {
      const range = this.#flight.firstLost(this.mss - options)
      if (range === undefined) break
      if (this.#flight.bytes > 0 && this.#flight.bytes + (range.end - range.start) > this.#cubic.window) {
        this.#isLimitedByCwnd = true
        return false
      }
      this.#resend(now, range, transmit)
      budget -= 1
    }
    while (budget > 0 && this.#sendNew(now, options, edge, transmit)) budget -= 1
    this.#setPersist(now)
    return budget === 0
  }

  /** Time of the next action; Infinity if there is none. */
  get deadline(): number {
    const outstanding = this.#flight.size === 0
      ? Infinity
      : Math.min(this.#probeAt, this.#timerStart + this.#rtt.timeout)
    return Math.min(outstanding, this.#reorderAt, this.#persist.at)
  }

  /** Acts on a deadline. Returns `dead` if the peer has not answered for too long, `persist` if a window probe is due. */
  tick(now: number, transmit: Transmit): "dead" | "persist" | undefined {
    if (now >= this.#persist.at) {
      this.#persist.fired(now, this.#rtt.timeout)
      return this.#patience.attempt(now) ? "persist" : "dead"
    }
    if (now >= this.#reorderAt) this.#findLosses(now)
    if (this.#flight.size === 0) return undefined
    if (now >= this.#timerStart + this.#rtt.timeout) return this.#timedOut(now)
    if (now >= this.#probeAt) this.#probe(now, transmit)
    return undefined
  }

  /** The peer answers, although its window is closed. */
  heard(now: number): void {
    if (this.#persist.isRunning) this.#patience.progress(now)
  }

  clear(): void {
    this.buffer.clear()
    this.#flight.clear()
    this.#persist.stop()
    this.#reorderAt = Infinity
  }

  #advance(now: number, position: number): void {
    const bytes = position - this.una
    this.una = position
    this.buffer.release(position)
    this.#timerStart = now
    this.#patience.progress(now)
    this.#duplicates = 0
    this.#hasProbed = false
    this.#rtt.resetBackoff()
    if (this.#size.acknowledged(position)) this.#cubic.setMss(this.mss)
    if (this.#isRecovering && position >= this.#recoveryPoint) {
      this.#isRecovering = false
      this.#isCongested = false
      this.#hasTimedOut = false
      this.#reorderAt = Infinity
    } else if (this.#isRecovering) {
      // NewReno (RFC 6582): a partial acknowledgement shows the next loss. With SACK, RACK has found it already.
      if (this.#flight.sackedCount === 0 && this.#flight.lostCount === 0)
        this.#flight.markFirstLostIfOld(now, this.#rtt.smoothed)
    }
    if ((!this.#isCongested || this.#hasTimedOut) && this.#isLimitedByCwnd)
      this.#cubic.acknowledged(now, bytes, this.#rtt.smoothed)
  }

  #findLosses(now: number): void {
    this.#reorderAt = this.#flight.detectLosses(now, this.#rtt.minimum, this.#isRecovering)
    if (this.#flight.lostCount > 0) this.#recover()
  }

  /** Begins a recovery, and narrows the window once in it unless the losses are few and no queue is on the path. */
  #recover(): void {
    if (!this.#isRecovering) {
      this.#isRecovering = true
      this.#recoveryPoint = this.nxt
    }
    if (this.#isCongested || this.#flight.hasFewLosses && !this.#rtt.isQueueing) return
    this.#isCongested = true
    this.#cubic.lost()
  }

  #sendNew(now: number, options: number, edge: number, transmit: Transmit): boolean {
    const waiting = this.buffer.end - this.nxt
    const data = Math.min(this.#size.next(now, waiting) - options, waiting)
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
      this.#cubic.idle(now - this.#flight.lastSentAt, this.#rtt.timeout)
      this.#timerStart = now
      this.#patience.progress(now)
    }
    transmit(this.nxt, isFin ? 0 : length, isFin)
    this.#flight.add(now, this.nxt, this.nxt + length)
    this.#size.sent(this.nxt, this.nxt + length, options)
    this.nxt += length
    return true
  }

  #resend(now: number, range: SentRange, transmit: Transmit): void {
    if (range.start === this.una) this.#timerStart = now
    const isFin = range.start === this.fin
    transmit(range.start, isFin ? 0 : range.end - range.start, isFin)
    this.#flight.resent(now, range)
    this.#size.resent(now, range.start)
  }

  #timedOut(now: number): "dead" | undefined {
    if (this.#patience.attempts === 0) this.#cubic.timedOut(this.nxt - this.una)
    if (!this.#patience.attempt(now)) return "dead"
    // Large segments that vanish again and again do not fit through the path.
    if (this.#patience.attempts >= 2 && this.#size.decrease(now, this.#flight.firstLength)) this.#cubic.setMss(this.mss)
    this.#rtt.backOff()
    this.#flight.markAllLost()
    this.#isRecovering = true
    this.#isCongested = true
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

  #setPersist(now: number): void {
    const isBlocked = this.#flight.size === 0 && this.#unsentEnd > this.nxt && this.una > 0
    if (!isBlocked) this.#persist.stop()
    else if (!this.#persist.isRunning) {
      this.#patience.progress(now)
      this.#persist.start(now, this.#rtt.timeout)
    }
  }
}
