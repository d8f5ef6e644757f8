/** State machine of one WireGuard peer: sessions, timers, endpoint and waiting packets. */
import type { Endpoint, PeerStats } from "#wireguard/Device.ts"
import { forgetAfterMillis, maxAttempts, maxJitterMillis, rejectAfterMillis, rekeyTimeoutMillis } from "./constants.ts"
import type { HeapItem } from "#wireguard/DeadlineHeap.ts"
import type { ReceivedInitiation } from "./handshake.ts"
import { Handshaker, type HandshakerHost } from "./Handshaker.ts"
import type { IndexTable } from "./IndexTable.ts"
import type { WireGuardCounters, WireGuardPeer } from "./interface.ts"
import { PacketQueue, type QueueBudget } from "./PacketQueue.ts"
import { type PathHost, PeerPath } from "./PeerPath.ts"
import { PeerTimers } from "./PeerTimers.ts"
import type { Session } from "./Session.ts"
import { Sessions } from "./Sessions.ts"
import { decodeKey } from "./x25519.ts"

/** What a peer uses of the device that it belongs to. */
export interface PeerHost extends HandshakerHost, PathHost, QueueBudget {
  readonly counters: WireGuardCounters
  readonly indexes: IndexTable<Peer>
  /** Calls `tick` of the peer at `deadline` or earlier. */
  readonly arm: (peer: Peer, deadline: number) => void
}

/** Shortest time between two handshakes that the caller asks for. */
const renewIntervalMillis = 1_000
const attemptsUntilSilent = 3
const empty = Buffer.alloc(0)

export class Peer implements HeapItem {
  deadline = Infinity
  heapIndex = -1
  readonly publicKey: string
  readonly #host: PeerHost
  readonly #handshaker: Handshaker
  readonly #sessions: Sessions
  readonly #queue: PacketQueue
  readonly #path: PeerPath
  readonly #timers = new PeerTimers()
  #address = ""
  /** Handshakes sent since the last answer. */
  #attempts = 0
  #isSilent = false
  #jitter = 0
  #lastHandshakeSentAt = -Infinity
  #completedAt = -Infinity
  #lastHandshakeAt: number | undefined

  constructor(host: PeerHost, publicKey: string) {
    this.#host = host
    this.publicKey = publicKey
    const { indexes } = host
    this.#handshaker = new Handshaker(host, decodeKey(publicKey, `public key ${publicKey} of a peer`), {
      add: () => indexes.add(this),
      remove: (index) => indexes.remove(index)
    })
    this.#sessions = new Sessions((session) => indexes.remove(session.localIndex))
    this.#queue = new PacketQueue(host)
    this.#path = new PeerPath(host, publicKey)
  }

  /** A changed endpoint is used at once; otherwise a learned one stays. */
  configure(now: number, { address, endpoint, keepaliveSeconds }: WireGuardPeer): void {
    this.#address = address
    const isNewEndpoint = this.#path.configure(endpoint)
    this.#timers.configure(now, keepaliveSeconds)
    const isUsed = this.#timers.isPersistent || this.#sessions.current !== undefined || !this.#queue.isEmpty
    if (isNewEndpoint && isUsed) this.renewHandshake(now)
    this.#arm()
  }

  /** Starts a new handshake with the next `tick`, if the peer has an endpoint. The session serves until then. */
  renewHandshake(now: number): void {
    if (this.#path.endpoint === undefined) return
    this.#attempts = 0
    this.#scheduleHandshake(Math.max(now, this.#lastHandshakeSentAt + renewIntervalMillis))
  }

  send(now: number, packet: Uint8Array): void {
    const session = this.#sessions.current
    if (session?.canSend(now) === true) {
      this.#sendData(now, session, packet)
    } else {
      this.#queue.add(packet)
      this.#wantHandshake(now)
    }
  }

  /** Does what is due. Returns the time of the next call. */
  tick(now: number): number {
    const timers = this.#timers
    if (now >= timers.forgetAt) this.#forget()
    if (now >= timers.handshakeAt) this.#retryHandshake(now)
    if (now >= timers.noAnswerAt) {
      timers.noAnswerAt = Infinity
      this.#wantHandshake(now)
    }
    if (timers.takeKeepalive(now)) this.#sendKeepalive(now)
    return timers.next()
  }

  /** A data message of one of this peer's sessions. True if it was opened in place. */
  receiveData(now: number, session: Session, datagram: Buffer, from: Endpoint): boolean {
    const outcome = session.open(now, datagram)
    if (outcome !== "newest" && outcome !== "late") {
      this.#host.counters[outcome] += 1
      return false
    }
    // A late message can come from an address that the peer has left.
    this.#noteReceived(now, datagram.length, outcome === "newest" ? from : undefined)
    if (this.#sessions.confirm(session)) {
      this.#completeHandshake(now)
      this.#sendWaiting(now, session)
    }
    if (this.#sessions.current?.takeLateRenewal(now) === true) this.#wantHandshake(now)
    return true
  }

  /** A packet came, which this end answers with data or a keepalive within 10 s. */
  noteDataReceived(now: number): void {
    this.#timers.oweAnswer(now)
    this.#arm()
  }

  /** Answers an initiation of this peer. A known endpoint changes only when the peer confirms the session. */
  receiveInitiation(now: number, message: Buffer, initiation: ReceivedInitiation, from: Endpoint): void {
    const answer = this.#handshaker.answer(now, message, initiation)
    if (typeof answer === "string") {
      this.#host.counters[answer] += 1
      return
    }
    this.#addSession(now, answer.session)
    this.#noteReceived(now, message.length, this.#path.endpoint === undefined ? from : undefined)
    this.#lastHandshakeSentAt = now
    this.#sendTo(now, answer.response, from)
  }

  /** A response to this peer's initiation, found by its index. */
  receiveResponse(now: number, message: Buffer, from: Endpoint): void {
    const session = this.#handshaker.finish(now, message)
    if (session === undefined) {
      this.#host.counters.rejectedHandshakes += 1
      return
    }
    this.#addSession(now, session)
    this.#noteReceived(now, message.length, from)
    this.#completeHandshake(now)
    // The first message confirms the session to the peer.
    if (this.#queue.isEmpty) this.#transmit(now, session, empty)
    else this.#sendWaiting(now, session)
  }

  receiveCookieReply(now: number, message: Buffer): void {
    if (this.#handshaker.readCookieReply(now, message)) this.#path.receivedBytes += message.length
    else this.#host.counters.rejectedHandshakes += 1
  }

  stats(): PeerStats {
    return {
      publicKey: this.publicKey,
      address: this.#address,
      lastHandshakeAt: this.#lastHandshakeAt,
      receivedBytes: this.#path.receivedBytes,
      sentBytes: this.#path.sentBytes,
      endpoint: this.#path.endpoint
    }
  }

  /** Erases all keys and drops waiting packets. The peer must not be used afterwards. */
  close(): void {
    this.#forget()
    this.#queue.dropAll()
  }

  #sendData(now: number, session: Session, packet: Uint8Array): void {
    this.#transmit(now, session, packet)
    this.#timers.expectAnswer(now, this.#jitter)
    this.#arm()
  }

  #sendKeepalive(now: number): void {
    const session = this.#sessions.current
    if (session?.canSend(now) === true) this.#transmit(now, session, empty)
    else if (this.#path.endpoint !== undefined) this.#wantHandshake(now)
  }

  #sendWaiting(now: number, session: Session): void {
    for (const packet of this.#queue.takeAll()) this.#sendData(now, session, packet)
  }

  #transmit(now: number, session: Session, packet: Uint8Array): void {
    this.#sendTo(now, session.seal(packet))
    if (session.isRenewalDue(now)) this.#wantHandshake(now)
  }

  /** Sends an authenticated message, which is also a keepalive. */
  #sendTo(now: number, datagram: Buffer, to?: Endpoint): void {
    if (this.#path.send(datagram, to)) this.#timers.noteSent(now)
  }

  /** An authenticated message came. `from` is given if it shows the peer's present address. */
  #noteReceived(now: number, bytes: number, from: Endpoint | undefined): void {
    this.#path.receivedBytes += bytes
    this.#timers.noteReceived(now)
    if (from !== undefined) this.#path.learn(now, from)
  }

  /** Must run after a timer may have become earlier. */
  #arm(): void {
    this.#host.arm(this, this.#timers.next())
  }

  #addSession(now: number, session: Session): void {
    this.#sessions.add(session)
    this.#host.indexes.setSession(session)
    this.#timers.forgetAt = now + forgetAfterMillis
    this.#arm()
  }

  #completeHandshake(now: number): void {
    const isRenewal = now - this.#completedAt < rejectAfterMillis
    this.#handshaker.abandon()
    this.#timers.handshakeAt = Infinity
    this.#attempts = 0
    this.#isSilent = false
    this.#completedAt = now
    this.#lastHandshakeAt = this.#host.wall()
    this.#host.onEvent({
      type: "handshakeCompleted",
      publicKey: this.publicKey,
      endpoint: this.#path.endpoint,
      isRenewal
    })
  }

  #scheduleHandshake(at: number): void {
    this.#timers.handshakeAt = at
    this.#arm()
  }

  /** Starts a handshake, unless one is on its way or the last message of one is younger than 5 s. */
  #wantHandshake(now: number): void {
    if (this.#timers.handshakeAt !== Infinity) return
    this.#attempts = 0
    this.#jitter = this.#host.random(2).readUInt16LE(0) % maxJitterMillis
    const earliest = this.#lastHandshakeSentAt + rekeyTimeoutMillis
    if (now >= earliest) this.#initiate(now)
    else this.#scheduleHandshake(earliest + this.#jitter)
  }

  /** A peer with keepalive is tried without end. */
  #retryHandshake(now: number): void {
    const isAttemptOver = this.#attempts > 0 && this.#attempts % maxAttempts === 0
    if (isAttemptOver) this.#queue.dropAll()
    if (isAttemptOver && !this.#timers.isPersistent) {
      this.#handshaker.abandon()
      this.#timers.handshakeAt = Infinity
      if (this.#timers.forgetAt === Infinity) this.#timers.forgetAt = now + forgetAfterMillis
    } else {
      this.#initiate(now)
    }
  }

  #initiate(now: number): void {
    if (this.#path.endpoint === undefined && this.#queue.isEmpty) {
      this.#timers.handshakeAt = Infinity
      return
    }
    this.#jitter = this.#host.random(2).readUInt16LE(0) % maxJitterMillis
    this.#scheduleHandshake(now + rekeyTimeoutMillis + this.#jitter)
    this.#reportSilence()
    this.#attempts += 1
    const message = this.#path.endpoint && this.#handshaker.initiate(now)
    if (message === undefined) return
    this.#lastHandshakeSentAt = now
    this.#sendTo(now, message)
  }

  #reportSilence(): void {
    if (this.#attempts < attemptsUntilSilent || this.#isSilent) return
    this.#isSilent = true
    this.#host.onEvent({ type: "peerSilent", publicKey: this.publicKey, endpoint: this.#path.endpoint })
  }

  #forget(): void {
    this.#timers.forgetAt = Infinity
    this.#handshaker.abandon()
    this.#sessions.clear()
  }
}
