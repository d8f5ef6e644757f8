/** Round-trip time and retransmission timeout (RFC 6298), in milliseconds. Pure. */

const initialTimeout = 1_000
/** As in Linux; RFC 6298 asks for 1 s, which was chosen for slower clocks. */
const minTimeout = 200
/** RFC 6298 allows 60 s at least. A tunnel that is back after an outage must not wait that long for the next attempt. */
const maxTimeout = 10_000

/** Rise of the round-trip time over its minimum that shows a queue: a quarter, or this number of milliseconds. */
const minQueueMillis = 1

export class RoundTrip {
  smoothed = 0
  minimum = Infinity
  #variation = 0
  #timeout = initialTimeout
  #backoff = 0

  get hasSample(): boolean {
    return this.smoothed > 0
  }

  get timeout(): number {
    return Math.min(maxTimeout, this.#timeout * 2 ** this.#backoff)
  }

  /** Packets wait in a queue on the path, or the delay varies so much that a queue cannot be excluded. */
  get isQueueing(): boolean {
    return this.smoothed - this.minimum > Math.max(minQueueMillis, this.minimum / 4)
  }

  sample(millis: number): void {
    const rtt = Math.max(millis, 0.01)
    this.minimum = Math.min(this.minimum, rtt)
    if (this.smoothed === 0) {
      this.smoothed = rtt
      this.#variation = rtt / 2
    } else {
      this.#variation += (Math.abs(this.smoothed - rtt) - this.#variation) / 4
      this.smoothed += (rtt - this.smoothed) / 8
    }
    this.#timeout = Math.max(minTimeout, this.smoothed + 4 * this.#variation)
  }

  backOff(): void {
    this.#backoff = Math.min(this.#backoff + 1, 12)
  }

  /** New data was acknowledged, so the path works. */
  resetBackoff(): void {
    this.#backoff = 0
  }
}
