/** Congestion window by CUBIC (RFC 9438), in bytes. Pure. */

/** Initial window in segments (RFC 6928). */
const initialSegments = 10
const beta = 0.7
/** Segments per s³. */
const scale = 0.4

export class Cubic {
  window: number
  threshold = Infinity
  #mss: number
  /** Window before the last loss, in segments. */
  #maxWindow = 0
  /** Beginning of the current growth in ms; undefined until the next acknowledgement. */
  #epoch: number | undefined
  /** Seconds from the beginning until the window reaches `#origin`. */
  #k = 0
  #origin = 0
  /** What NewReno would have, which is the lower bound (RFC 9438 section 4.3). */
  #renoWindow = 0
  #grownAt = 0

  constructor(mss: number) {
    this.#mss = mss
    this.window = initialSegments * mss
  }

  /** Sets the segment size of a connection that has not sent anything. */
  begin(mss: number): void {
    this.#mss = mss
    this.window = initialSegments * mss
  }

  setMss(mss: number): void {
    this.#mss = mss
  }

  /** Nothing was sent for `millis`: what the path carries may have changed (RFC 5681 section 4.1, RFC 2861). */
  idle(millis: number, timeout: number): void {
    const floor = initialSegments * this.#mss
    if (millis < timeout || this.window <= floor) return
    this.threshold = Math.max(this.threshold, this.window * 0.75)
    this.window = Math.max(floor, this.window / 2 ** Math.min(32, Math.floor(millis / timeout)))
    this.#epoch = undefined
  }

  /** New data was acknowledged while the window limited the sender. `rtt` in ms. */
  acknowledged(now: number, bytes: number, rtt: number): void {
    if (this.window < this.threshold) {
      this.window = Math.min(this.window + bytes, Math.max(this.threshold, this.window))
      return
    }
    const segments = this.window / this.#mss
    // Time in which the application did not fill the window is no time of growth (RFC 9438 section 5.8).
    const pause = now - this.#grownAt - 2 * rtt
    if (pause > 0 && this.#epoch !== undefined) this.#epoch += pause
    this.#grownAt = now
    if (this.#epoch === undefined) {
      this.#epoch = now
      this.#renoWindow = segments
      this.#origin = Math.max(this.#maxWindow, segments)
      this.#k = Math.cbrt((this.#origin - segments) / scale)
    }
    const seconds = (now - this.#epoch + rtt) / 1_000
    const target = Math.min(segments * 1.5, Math.max(segments, this.#origin + scale * (seconds - this.#k) ** 3))
    const renoStep = this.#renoWindow >= this.#maxWindow ? 1 : 3 * (1 - beta) / (1 + beta)
    this.#renoWindow += renoStep * (bytes / this.window)
    const cubic = segments + (target - segments) * (bytes / this.window)
    this.window = Math.max(cubic, this.#renoWindow) * this.#mss
  }

  /** A segment was lost; called once for each round trip with losses. */
  lost(): void {
    this.#remember()
    this.threshold = Math.max(this.window * beta, 2 * this.#mss)
    this.window = this.threshold
  }

  /** The retransmission timer has fired. `flightSize`: bytes that were sent and not acknowledged. */
  timedOut(flightSize: number): void {
    this.#remember()
    this.threshold = Math.max(Math.min(flightSize, this.window) * beta, 2 * this.#mss)
    this.window = this.#mss
  }

  /** Fast convergence (RFC 9438 section 4.7): a flow that shrinks leaves room to others. */
  #remember(): void {
    const segments = this.window / this.#mss
    this.#maxWindow = segments < this.#maxWindow ? segments * (1 + beta) / 2 : segments
    this.#epoch = undefined
  }
}
