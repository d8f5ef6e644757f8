/** Timers of a silent peer: when a closed window is probed, and when the connection fails. */

/**
 * The connection fails after this time without progress (RFC 9293 section 3.8.3, user timeout) and this number of attempts. A process
 * that was suspended sees the time jump, and must not give up before it has asked again.
 */
const giveUpMillis = 60_000
const minAttempts = 4

const maxPersistMillis = 30_000

/** Attempts to reach the peer since the last progress. */
export class Patience {
  #progressAt = 0
  #attempts = 0

  get attempts(): number {
    return this.#attempts
  }

  progress(now: number): void {
    this.#progressAt = now
    this.#attempts = 0
  }

  /** Counts an attempt. Returns false if the peer has not answered the earlier ones for too long. */
  attempt(now: number): boolean {
    if (this.#attempts >= minAttempts && now - this.#progressAt > giveUpMillis) return false
    this.#attempts += 1
    return true
  }
}

/** Probes a closed window, because the acknowledgement that opens it can be lost (RFC 9293 section 3.8.6.1). */
export class PersistTimer {
  at = Infinity
  #millis = 0

  get isRunning(): boolean {
    return this.at !== Infinity
  }

  start(now: number, timeout: number): void {
    this.at = now + timeout
  }

  stop(): void {
    this.at = Infinity
    this.#millis = 0
  }

  /** A probe is sent, and the next one later. */
  fired(now: number, timeout: number): void {
    this.#millis = Math.min(maxPersistMillis, Math.max(timeout, this.#millis * 2))
    this.at = now + this.#millis
  }
}
