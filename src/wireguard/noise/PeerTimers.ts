/** Deadlines of one peer in milliseconds, Infinity when off (whitepaper, section 6). */
import { keepaliveTimeoutMillis, rekeyTimeoutMillis } from "./constants.ts"

export class PeerTimers {
  /** Next handshake of this end. */
  handshakeAt = Infinity
  /** New handshake, because sent data had no answer. */
  noAnswerAt = Infinity
  /** Keepalive that answers received data. */
  keepaliveAt = Infinity
  /** Keepalive that keeps a NAT's mapping. */
  persistentAt = Infinity
  /** All keys are erased. */
  forgetAt = Infinity
  /** Time between two persistent keepalives; 0 for none. */
  #persistentMillis = 0

  next(): number {
    return Math.min(this.handshakeAt, this.noAnswerAt, this.keepaliveAt, this.persistentAt, this.forgetAt)
  }

  get isPersistent(): boolean {
    return this.#persistentMillis > 0
  }

  /** The first persistent keepalive is due at once. */
  configure(now: number, keepaliveSeconds: number): void {
    const millis = keepaliveSeconds > 0 ? keepaliveSeconds * 1000 : 0
    if (millis === this.#persistentMillis) return
    this.#persistentMillis = millis
    this.persistentAt = millis === 0 ? Infinity : now
  }

  /** A data message was sent. The peer answers within 10 s, by a keepalive at least. */
  expectAnswer(now: number, jitter: number): void {
    if (this.noAnswerAt === Infinity) this.noAnswerAt = now + keepaliveTimeoutMillis + rekeyTimeoutMillis + jitter
  }

  /** A data message came, which is answered within 10 s. */
  oweAnswer(now: number): void {
    if (this.keepaliveAt === Infinity) this.keepaliveAt = now + keepaliveTimeoutMillis
  }

  /** An authenticated message was sent. */
  noteSent(now: number): void {
    this.keepaliveAt = Infinity
    if (this.#persistentMillis > 0) this.persistentAt = now + this.#persistentMillis
  }

  /** An authenticated message came. */
  noteReceived(now: number): void {
    this.noAnswerAt = Infinity
    if (this.#persistentMillis > 0) this.persistentAt = now + this.#persistentMillis
  }

  /** True if a keepalive of either kind is due. It counts as sent. */
  takeKeepalive(now: number): boolean {
    const isAnswerDue = now >= this.keepaliveAt
    const isPersistentDue = now >= this.persistentAt
    if (isAnswerDue) this.keepaliveAt = Infinity
    if (isPersistentDue) this.persistentAt = now + this.#persistentMillis
    return isAnswerDue || isPersistentDue
  }
}
