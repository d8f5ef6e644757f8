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

  constructor(mss: number) {
    this.#mss = mss
    this.window = initialSegments * mss
  }

  setMss(mss: number): void {
    this.#mss = mss
  }

  /** New data was acknowledged while the window limited the sender. `rtt` in ms. */
  acknowledged(now: number, bytes: number, rtt: number): void {
    if (this.window < this.threshold) {
      this.window = Math.min(this.window + bytes, Math.max(this.threshold, this.window))
      return
    }
    const segments = this.window / this.#mss
    if (this.#epoch === undefined) {
      this.#epoch = now
      this.#renoWindow = segments
      this.#origin = Math.max(this.#maxWindow, segments)
      this.#k = Math.cbrt((this.#origin - segments) / scale)
    }
    const seconds = (now - this.#epoch + rtt) / 1_000
    const target = Math.min(segments * 1.5, Math.max(segments, this.#origin + scale * (seconds - this.#k) ** 3))
    this.#renoWindow += 3 * (1 - beta) / (1 + beta) * (bytes / this.window)
    const cubic = segments + (target - segments) * (bytes / this.window)
    this.window = Math.max(cubic, this.#renoWindow) * this.#mss
  }

  /** A segment was lost; called once for each round trip with losses. */
  lost(): void {
    this.#remember()
    this.threshold = Math.max(this.window * beta, 2 * this.#mss)
    this.window = this.threshold
  }

  /** The retransmission timer has fired. */
  timedOut(bytesInFlight: number): void {
    this.#remember()
    this.threshold = Math.max(bytesInFlight * beta, 2 * this.#mss)
    this.window = this.#mss
  }

  /** Fast convergence (RFC 9438 section 4.7): a flow that shrinks leaves room to others. */
  #remember(): void {
    const segments = this.window / this.#mss
    this.#maxWindow = segments < this.#maxWindow ? segments * (1 + beta) / 2 : segments
    this.#epoch = undefined
  }
}
