/** Sends the segments of one connection, each with the newest acknowledgement, window and SACK blocks. */
import type { AckTimer, SequenceNumbers } from "./connectionParts.ts"
import type { Receiver } from "./Receiver.ts"
import { type Ends, flags, type SegmentWriter } from "./segment.ts"
import type { Sender } from "./Sender.ts"

/** Blocks that leave room for data. */
const maxBlocks = 3

export class SegmentOutput {
  /** Whether the peer understands SACK. */
  isSackPermitted = false
  readonly #writer: SegmentWriter
  readonly #ends: Ends
  readonly #numbers: SequenceNumbers
  readonly #sender: Sender
  readonly #receiver: Receiver
  readonly #ack: AckTimer

  constructor(
    writer: SegmentWriter,
    ends: Ends,
    numbers: SequenceNumbers,
    sender: Sender,
    receiver: Receiver,
    ack: AckTimer
  ) {
    this.#writer = writer
    this.#ends = ends
    this.#numbers = numbers
    this.#sender = sender
    this.#receiver = receiver
    this.#ack = ack
  }

  /** Bytes of the SACK option in the next segments. */
  get optionBytes(): number {
    return this.#receiver.hasLate && this.isSackPermitted ? 4 + 8 * maxBlocks : 0
  }

  /** Sends the SYN, or the SYN-ACK as an answer. A shift of -1 omits the window scale. */
  sendSyn(mss: number, isAnswer: boolean, windowShift: number): void {
    const { local, remote } = this.#numbers
    const bits = isAnswer ? flags.syn | flags.ack : flags.syn
    const options = { mss, windowShift, isSackPermitted: !isAnswer || this.isSackPermitted }
    const acknowledgement = isAnswer ? remote + 1 : 0
    this.#writer.sendSyn(this.#ends, local, acknowledgement, bits, this.#receiver.advertise(true), options)
  }

  /** Sends bytes of the stream, or the FIN. */
  readonly transmit = (position: number, length: number, isFin: boolean): void => {
    const { buffer } = this.#sender
    const blocks = this.#sackBlocks(this.#sender.mss - length)
    if (length > 0) buffer.copy(position, length, this.#writer.buffer, this.#writer.payloadAt(blocks.length / 2))
    const isLast = length > 0 && position + length === buffer.end
    this.#send(position, flags.ack | (isFin ? flags.fin : 0) | (isLast ? flags.psh : 0), length, blocks)
  }

  sendAck(): void {
    this.#send(this.#sender.nxt, flags.ack, 0, this.#sackBlocks(Infinity))
  }

  /** A segment before the window makes the peer answer. */
  sendProbe(): void {
    this.#send(this.#sender.una - 1, flags.ack, 0, [])
  }

  /** Rejects a segment with an acknowledgement of something that was never sent (RFC 9293 section 3.10.7.3). */
  rejectAck(acknowledgement: number): void {
    this.#writer.send(this.#ends, acknowledgement, 0, flags.rst, 0, 0)
  }

  sendReset(): void {
    const { local, remote } = this.#numbers
    const bits = flags.rst | flags.ack
    this.#writer.send(this.#ends, local + this.#sender.nxt, remote + this.#receiver.next, bits, 0, 0)
  }

  #send(position: number, bits: number, length: number, blocks: ReadonlyArray<number>): void {
    const { local, remote } = this.#numbers
    const window = this.#receiver.advertise(false)
    this.#ack.sent()
    this.#writer.send(this.#ends, local + position, remote + this.#receiver.next, bits, window, length, blocks)
  }

  /** Blocks that fit into `room` bytes. A segment that is sent again can be too long for any. */
  #sackBlocks(room: number): ReadonlyArray<number> {
    if (!this.#receiver.hasLate || !this.isSackPermitted) return noBlocks
    return this.#receiver.sackEdges(Math.max(0, Math.min(maxBlocks, Math.floor((room - 4) / 8)))).map((position) =>
      this.#numbers.remote + position
    )
  }
}

const noBlocks: ReadonlyArray<number> = []
