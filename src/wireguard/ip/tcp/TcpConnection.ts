/** One TCP connection (RFC 9293): states, segments in both directions, and timers. */
import type { HeapItem } from "#wireguard/DeadlineHeap.ts"
import { Receiver } from "./Receiver.ts"
import { SegmentOutput } from "./SegmentOutput.ts"
import {
  AckTimer,
  type ConnectionOwner,
  KeepAlive,
  MemoryShare,
  type PeerSyn,
  peerSynOf,
  sackOf,
  SequenceNumbers,
  SynTimer,
  type TcpHandlers,
  WriteLimit
} from "./connectionParts.ts"
import { type Ends, flags, type Segment } from "./segment.ts"
import { Sender } from "./Sender.ts"

/** Scale of the own window: 64 KiB · 2⁵ = 2 MiB. */
const ownShift = 5

const timeWaitMillis = 10_000

type State = "syn-sent" | "syn-received" | "open" | "time-wait" | "closed"

export class TcpConnection implements HeapItem {
  deadline = Infinity
  heapIndex = -1
  isDirty = false
  readonly ends: Ends
  readonly #owner: ConnectionOwner<TcpConnection>
  readonly #handlers: TcpHandlers
  readonly #sender: Sender
  readonly #receiver: Receiver
  readonly #output: SegmentOutput
  /** Changed by the connection only. */
  state: State = "syn-sent"
  readonly #numbers: SequenceNumbers
  readonly #ack = new AckTimer()
  readonly #syn = new SynTimer()
  readonly #keepAlive: KeepAlive
  /** Window scale of the peer; -1 if the peer does not scale. */
  #peerShift = -1
  #hasRemoteEnded = false
  #hasEndedFirst = false
  #closeAt = Infinity
  readonly #writeLimit: WriteLimit
  readonly #memory: MemoryShare

  /** `localStart`: the initial sequence number. */
  constructor(
    now: number,
    owner: ConnectionOwner<TcpConnection>,
    ends: Ends,
    localStart: number,
    handlers: TcpHandlers
  ) {
    this.#owner = owner
    this.#handlers = handlers
    this.ends = ends
    this.#numbers = new SequenceNumbers(localStart)
    this.#keepAlive = new KeepAlive(now)
    this.#sender = new Sender(owner.mss)
    this.#receiver = new Receiver(owner.maxWindow, owner.isMemoryFull)
    this.#writeLimit = new WriteLimit(owner.maxWindow)
    this.#memory = new MemoryShare(owner.memory)
    this.#output = new SegmentOutput(owner.writer, ends, this.#numbers, this.#sender, this.#receiver, this.#ack)
  }

  /** Sends the SYN, or the answer to the peer's SYN. */
  open(now: number, syn?: PeerSyn): void {
    if (syn !== undefined) this.#useSyn(syn)
    this.#sendSyn(now, syn !== undefined)
  }

  /** Sends nothing by itself; `flush` of the stack does. Returns false above the high-water mark. */
  write(chunk: Uint8Array): boolean {
    if (this.state === "closed" || this.state === "time-wait" || this.#sender.fin !== undefined) return true
    this.#sender.buffer.append(chunk)
    this.#owner.markDirty(this)
    return this.#writeLimit.mayContinue(this.#sender.unsentBytes)
  }

  /** Whether a SYN with this number can begin a new connection in place of this one. A late repetition of the old SYN cannot. */
  mayReplace(sequence: number): boolean {
    return this.state === "time-wait" && sequence !== this.#numbers.remote
  }

  /** Ends the own direction after all bytes that were written. */
  end(): void {
    this.#sender.end()
    this.#owner.markDirty(this)
  }

  /** Ends the connection at once. `code`: the cause, if it is not the application's wish. `isSilent` sends no RST. */
  reset(code?: string, isSilent = false): void {
    if (this.state === "closed") return
    if (!isSilent && (this.state === "open" || this.state === "syn-received")) this.#output.sendReset()
    this.#close(code)
  }

  consumed(bytes: number): void {
    this.#receiver.consumed(bytes)
    if (this.#receiver.needsWindowUpdate && this.state === "open") {
      this.#ack.now()
      this.#owner.markDirty(this)
    }
  }

  /** 0 turns keepalive off. */
  setKeepAlive(idleMillis: number): void {
    this.#keepAlive.idleMillis = idleMillis
    this.#owner.markDirty(this)
  }

  receive(now: number, segment: Segment): void {
    this.#owner.markDirty(this)
    if (this.state === "syn-sent") return this.#receiveInSynSent(now, segment)
    if (this.state === "closed") return
    const start = this.#numbers.remotePosition(segment.sequence, this.#receiver.next)
    const { flags: bits, payloadLength: length } = segment
    if ((bits & flags.rst) !== 0) return this.#receiveReset(now, start)
    if ((bits & flags.syn) !== 0) {
      if (this.state !== "syn-received" || start !== 0) return this.#ack.challenge(now)
      if ((bits & flags.ack) === 0) return this.#sendSyn(now, true)
      // Both ends have opened at the same time.
      if (segment.acknowledgement === ((this.#numbers.local + 1) >>> 0)) this.#opened(now, segment.window)
      return this.#ack.now()
    }
    if ((bits & flags.ack) === 0) return
    this.#keepAlive.heard(now)
    this.#sender.heard(now)
    const isFin = (bits & flags.fin) !== 0
    // A segment outside of the window is answered, because it may be a probe or a repetition (RFC 9293 section 3.10.7.4).
    if (this.#receiver.isBeyond(start, length)) return this.#ack.now()
    if (this.#receiver.isOld(start, length)) this.#ack.now()
    if (!this.#receiveAck(now, start, segment)) return
    if (length > 0) this.#receiveData(start, segment)
    if (this.#isClosed) return
    if (isFin) this.#receiver.endAt(start + length)
    // The peer has not received the last acknowledgement.
    if (isFin && this.state === "time-wait") this.#closeAt = now + timeWaitMillis
    this.#receiveEnd()
    if (this.state === "open" && this.#hasRemoteEnded && this.#sender.isFinAcknowledged) this.#finish(now)
  }

  /** Sends what is due. Returns whether more could be sent in another turn. */
  output(now: number): boolean {
    if (this.state === "closed") return false
    let hasMore = false
    if (this.state === "open") {
      hasMore = this.#sender.output(now, this.#output.optionBytes, this.#owner.maxWindow(), this.#output.transmit)
      if (this.#ack.isDue) this.#output.sendAck()
      if (this.#writeLimit.drains(this.#sender.unsentBytes)) this.#handlers.onDrain()
      if (this.#isClosed) return false
    } else if (this.state === "time-wait" && this.#ack.isDue) this.#output.sendAck()
    if (this.state !== "time-wait") this.#memory.set(this.#sender.buffer.length + this.#receiver.memory)
    this.#ack.schedule(now)
    const open = this.state === "open" ? Math.min(this.#keepAlive.at, this.#sender.deadline) : Infinity
    this.#owner.setDeadline(this, Math.min(this.#syn.at, this.#ack.at, this.#closeAt, open))
    return hasMore
  }

  tick(now: number): void {
    if (this.state === "closed") return
    if (now >= this.#closeAt) return this.#close(undefined)
    if (now >= this.#syn.at) {
      if (this.state === "syn-received" && this.#syn.isExhausted) return this.reset("ETIMEDOUT", true)
      this.#sendSyn(now, this.state === "syn-received")
    }
    if (now >= this.#ack.at) this.#ack.now()
    if (this.state === "open") {
      const result = this.#sender.tick(now, this.#output.transmit)
      const isIdle = now >= this.#keepAlive.at
      if (result === "dead" || isIdle && !this.#keepAlive.probe(now)) return this.reset("ETIMEDOUT")
      if (result === "persist" || isIdle) this.#output.sendProbe()
    }
    this.#owner.markDirty(this)
  }

  #receiveInSynSent(now: number, segment: Segment): void {
    const hasAck = (segment.flags & flags.ack) !== 0
    if (hasAck && segment.acknowledgement !== ((this.#numbers.local + 1) >>> 0)) {
      if ((segment.flags & flags.rst) === 0) this.#output.rejectAck(segment.acknowledgement)
      return
    }
    if ((segment.flags & flags.rst) !== 0 && hasAck) return this.#close("ECONNREFUSED")
    if ((segment.flags & (flags.rst | flags.syn)) !== flags.syn) return
    // Both ends can open at the same time.
    if (!hasAck) return this.open(now, peerSynOf(segment))
    this.#useSyn(peerSynOf(segment))
    this.#ack.now()
    this.#opened(now, segment.window)
  }

  /** A guessed sequence number must not end the connection (RFC 5961 section 3). */
  #receiveReset(now: number, start: number): void {
    if (start === this.#receiver.next) {
      // The peer has everything and has forgotten the connection, because only the acknowledgement of the FIN was lost.
      const isComplete = this.#hasRemoteEnded && this.#sender.una === this.#sender.fin
      return this.#close(isComplete ? undefined : "ECONNRESET")
    }
    if (start > this.#receiver.next && start <= this.#receiver.edge) this.#ack.challenge(now)
  }

  /** Returns false if the segment must not be processed further. */
  #receiveAck(now: number, start: number, segment: Segment): boolean {
    const position = this.#numbers.localPosition(segment.acknowledgement, this.#sender.una)
    if (this.state === "syn-received") {
      if (position !== 1) {
        this.#output.rejectAck(segment.acknowledgement)
        return false
      }
      this.#opened(now, this.#scaled(segment))
      if (this.#isClosed) return false
    } else if (position > this.#sender.nxt) {
      this.#ack.challenge(now)
      return false
    }
    if (position < this.#sender.una) return true
    const sack = sackOf(segment, this.#numbers, position, this.#sender.nxt)
    const isPure = segment.payloadLength === 0 && (segment.flags & flags.fin) === 0
    this.#sender.acknowledge(now, start, position, this.#scaled(segment), sack, isPure)
    return true
  }

  #scaled({ window }: Segment): number {
    return window * 2 ** Math.max(0, this.#peerShift)
  }

  #receiveData(start: number, segment: Segment): void {
    const bytes = segment.packet.subarray(segment.payloadStart, segment.payloadEnd)
    const hadLate = this.#receiver.hasLate
    const hasMoved = this.#receiver.insert(start, bytes, this.#deliver)
    // A gap that opens or closes is acknowledged at once (RFC 5681 section 4.2).
    if (!hasMoved || hadLate) this.#ack.now()
    else this.#ack.segmentReceived()
  }

  /** TypeScript does not know that callbacks can close the connection. */
  get #isClosed(): boolean {
    return this.state === "closed"
  }

  #receiveEnd(): void {
    if (!this.#receiver.takeEnd()) return
    this.#hasRemoteEnded = true
    this.#hasEndedFirst = this.#sender.fin !== undefined && this.#sender.nxt > this.#sender.fin
    this.#ack.now()
    this.#handlers.onEnd()
  }

  /** The end that has sent its FIN first waits, so that a lost last acknowledgement is repeated. */
  #finish(now: number): void {
    if (!this.#hasEndedFirst) return this.#close(undefined)
    this.state = "time-wait"
    this.#closeAt = now + timeWaitMillis
    this.#sender.clear()
    this.#receiver.clear()
    this.#memory.set(0)
    this.#owner.waits(this)
    this.#handlers.onClose(undefined)
  }

  #useSyn(syn: PeerSyn): void {
    this.state = "syn-received"
    this.#numbers.remote = syn.sequence
    this.#peerShift = syn.windowShift
    this.#receiver.setScale(syn.windowShift >= 0 ? ownShift : 0)
    this.#output.isSackPermitted = syn.isSackPermitted
    this.#sender.setMss(Math.min(this.#owner.mss, syn.mss))
  }

  #opened(now: number, window: number): void {
    this.state = "open"
    this.#sender.begin(now, window, this.#syn.answered(now))
    this.#handlers.onConnect()
  }

  #sendSyn(now: number, isAnswer: boolean): void {
    this.#syn.sent(now)
    this.#output.sendSyn(this.#owner.mss, isAnswer, isAnswer && this.#peerShift < 0 ? -1 : ownShift)
    this.#owner.markDirty(this)
  }

  readonly #deliver = (bytes: Buffer): void => this.#isClosed ? undefined : this.#handlers.onData(bytes)

  #close(code: string | undefined): void {
    const wasReported = this.state === "time-wait"
    this.state = "closed"
    this.#sender.clear()
    this.#receiver.clear()
    this.#memory.set(0)
    this.#owner.setDeadline(this, Infinity)
    this.#owner.forget(this)
    if (!wasReported) this.#handlers.onClose(code)
  }
}
