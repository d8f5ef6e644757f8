/** Handshakes of both roles with one peer: makes and reads messages, and returns sessions. */
import { timestampBytes } from "./constants.ts"
import { MacWriter } from "./cookies.ts"
import {
  type Local,
  readResponse,
  readTimestamp,
  type ReceivedInitiation,
  type Remote,
  remoteIdentity,
  type SentInitiation,
  writeInitiation,
  writeResponse
} from "./handshake.ts"
import { Session } from "./Session.ts"
import type { Timestamps } from "./tai64n.ts"

/** Initiations of one peer are answered at most once in this time. */
const initiationIntervalMillis = 20

/** Forged responses to one initiation that are checked, because each costs two X25519. */
const maxForgedResponses = 8

export interface HandshakerHost {
  readonly local: Local
  readonly random: (bytes: number) => Buffer
  readonly wall: () => number
  readonly timestamps: Timestamps
}

export class Handshaker {
  readonly #host: HandshakerHost
  readonly #publicKey: Buffer
  readonly #addIndex: () => number
  readonly #removeIndex: (index: number) => void
  #ends: { readonly remote: Remote; readonly macs: MacWriter } | undefined
  #sent: SentInitiation | undefined
  #forgedResponses = 0
  #lastInitiationAt = -Infinity
  #lastTimestamp: Buffer = Buffer.alloc(timestampBytes)

  /** `addIndex` reserves an index for messages of the peer. A session takes over the index of its handshake. */
  constructor(
    host: HandshakerHost,
    publicKey: Buffer,
    indexes: { readonly add: () => number; readonly remove: (index: number) => void }
  ) {
    this.#host = host
    this.#publicKey = publicKey
    this.#addIndex = indexes.add
    this.#removeIndex = indexes.remove
  }

  /** A new initiation, which replaces the last one. Undefined if the peer's key has low order. */
  initiate(now: number): Buffer | undefined {
    this.abandon()
    const ends = this.#getEnds()
    if (ends === undefined) return undefined
    const { local, random, timestamps, wall } = this.#host
    const localIndex = this.#addIndex()
    const written = writeInitiation(local, ends.remote, {
      localIndex,
      seed: random(32),
      timestamp: timestamps.next(wall())
    })
    if (written === undefined) {
      this.#removeIndex(localIndex)
      return undefined
    }
    this.#sent = written.sent
    this.#forgedResponses = 0
    ends.macs.write(now, written.message)
    return written.message
  }

  /** Forgets the sent initiation. */
  abandon(): void {
    if (this.#sent === undefined) return
    this.#removeIndex(this.#sent.localIndex)
    this.#sent = undefined
  }

  /** Response to an initiation of this peer, and the session that the peer has to confirm. */
  answer(
    now: number,
    message: Buffer,
    initiation: ReceivedInitiation
  ): { readonly session: Session; readonly response: Buffer } | "rejectedHandshakes" | "replayedHandshakes" {
    const ends = this.#getEnds()
    const read = ends && readTimestamp(ends.remote, initiation, message)
    if (ends === undefined || read === undefined) return "rejectedHandshakes"
    const isTooSoon = now - this.#lastInitiationAt < initiationIntervalMillis
    if (isTooSoon || Buffer.compare(read.timestamp, this.#lastTimestamp) <= 0) return "replayedHandshakes"
    this.#lastInitiationAt = now
    this.#lastTimestamp = read.timestamp
    const localIndex = this.#addIndex()
    const written = writeResponse(ends.remote, read.received, { localIndex, seed: this.#host.random(32) })
    if (written === undefined) {
      this.#removeIndex(localIndex)
      return "rejectedHandshakes"
    }
    ends.macs.write(now, written.message)
    const { remoteIndex } = initiation
    return {
      session: new Session(now, written.keys, { localIndex, remoteIndex, isInitiator: false }),
      response: written.message
    }
  }

  /** Session of a response to the sent initiation. Undefined if the response is forged. */
  finish(now: number, message: Buffer): Session | undefined {
    const sent = this.#sent
    if (sent === undefined || this.#forgedResponses >= maxForgedResponses) return undefined
    const keys = readResponse(this.#host.local, sent, message)
    if (keys === undefined) {
      this.#forgedResponses += 1
      return undefined
    }
    this.#sent = undefined
    const { localIndex } = sent
    return new Session(now, keys, { localIndex, remoteIndex: message.readUInt32LE(4), isInitiator: true })
  }

  /** Returns false if the cookie reply is forged or not expected. */
  readCookieReply(now: number, message: Buffer): boolean {
    return this.#ends?.macs.readCookieReply(now, message) === true
  }

  /** Computed for the first handshake, so that thousands of peers are configured at once. */
  #getEnds(): { readonly remote: Remote; readonly macs: MacWriter } | undefined {
    if (this.#ends === undefined) {
      const remote = remoteIdentity(this.#host.local, this.#publicKey)
      if (remote !== undefined) this.#ends = { remote, macs: new MacWriter(remote) }
    }
    return this.#ends
  }
}
