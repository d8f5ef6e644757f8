/** Payload of a full segment on a path that may drop large packets without an error (RFC 4821). */

/** Smallest payload that is tried if larger ones vanish. */
const minBytes = 512

/** Time from a decrease until a segment of the full size is tried again. It grows after each failure. */
const firstTrialMillis = 5_000
const trialFactor = 4
const maxTrialMillis = 600_000

export class SegmentSize {
  /** Payload in use, without options. */
  bytes: number
  /** What both ends accept. */
  #full: number
  #trialMillis = firstTrialMillis
  #trialAt = Infinity
  /** Positions of the segment that tries the full size. */
  #trialStart = -1
  #trialEnd = -1

  constructor(bytes: number) {
    this.bytes = bytes
    this.#full = bytes
  }

  /** Sets the size that both ends accept. */
  setFull(bytes: number): void {
    this.bytes = bytes
    this.#full = bytes
  }

  /** Halves the size, because segments of `length` bytes vanish again and again. Returns whether the size has changed. */
  decrease(now: number, length: number): boolean {
    if (length <= minBytes) return false
    this.bytes = Math.min(this.bytes, Math.max(minBytes, Math.floor(Math.min(this.bytes, length) / 2)))
    this.#trialAt = now + this.#trialMillis
    this.#trialEnd = -1
    return true
  }

  /** Payload of the next new segment. An outage looks like a path for small packets, so that the full size is tried later. */
  next(now: number, waiting: number): number {
    return now >= this.#trialAt && waiting >= this.#full ? this.#full : this.bytes
  }

  /** A new segment was sent. */
  sent(start: number, end: number, options: number): void {
    if (end - start <= this.bytes - options || this.bytes === this.#full) return
    this.#trialAt = Infinity
    this.#trialStart = start
    this.#trialEnd = end
  }

  /** A segment counts as lost. */
  resent(now: number, start: number): void {
    if (this.#trialEnd < 0 || start !== this.#trialStart) return
    this.#trialEnd = -1
    this.#trialMillis = Math.min(maxTrialMillis, this.#trialMillis * trialFactor)
    this.#trialAt = now + this.#trialMillis
  }

  /** Returns whether the size has changed. */
  acknowledged(position: number): boolean {
    if (this.#trialEnd < 0 || position < this.#trialEnd) return false
    this.#trialEnd = -1
    this.bytes = this.#full
    this.#trialMillis = firstTrialMillis
    return true
  }
}
