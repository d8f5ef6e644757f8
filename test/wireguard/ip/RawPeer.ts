/** A peer that writes its segments by hand, against one stack. */
import { IpStack, type IpStackOptions, type TcpConnection, type TcpHandlers } from "#wireguard/ip/IpStack.ts"
import { assert } from "@effect/vitest"
import { ack, checkPacket, type ReadTcp, readTcp, rst, syn, type TcpFields, tcpPacket } from "./packets.ts"

export const stackAddress = "10.0.0.2"
export const peerAddress = "10.0.0.1"
const peerPort = 40_000
const port = 20_000
/** Sequence number of the peer's SYN, close to the wrap. */
const peerStart = 2 ** 32 - 5

/** MSS 1240, window scale 7, SACK permitted. */
export const usualOptions = [2, 4, 1_240 >> 8, 1_240 & 255, 1, 3, 3, 7, 1, 1, 4, 2]

export class RawPeer {
  now = 1_000
  readonly stack: IpStack
  /** Packets that the stack has sent and the test has not taken. */
  readonly sent: Array<Buffer> = []
  readonly calls: Array<string> = []
  connection: TcpConnection | undefined
  received = Buffer.alloc(0)
  /** The stack's initial sequence number. */
  stackStart = 0
  #random = 1

  constructor(options: Partial<IpStackOptions> = {}) {
    this.stack = new IpStack({
      mtu: 1_280,
      random32: () => this.#random = (Math.imul(this.#random, 1_664_525) + 1_013_904_223) >>> 0,
      sendPacket: (packet) => {
        checkPacket(packet, options.mtu ?? 1_280)
        this.sent.push(Buffer.from(packet))
      },
      ...options
    })
    this.stack.setLocalAddresses([stackAddress])
  }

  readonly handlers: TcpHandlers = {
    onConnect: () => void this.calls.push("connect"),
    onData: (chunk) => {
      this.calls.push("data")
      this.received = Buffer.concat([this.received, chunk])
    },
    onEnd: () => void this.calls.push("end"),
    onDrain: () => void this.calls.push("drain"),
    onClose: (code) => void this.calls.push(`close ${code ?? "done"}`)
  }

  /** A segment to the stack. Positions count from the SYN of each direction, which is 0. */
  segment(flags: number, position: number, ackPosition: number, more: Partial<TcpFields> = {}): Buffer {
    return tcpPacket({
      from: peerAddress,
      fromPort: peerPort,
      to: stackAddress,
      toPort: port,
      sequence: peerStart + position,
      acknowledgement: this.stackStart + ackPosition,
      flags,
      window: 512,
      ...more
    })
  }

  send(flags: number, position: number, ackPosition: number, more: Partial<TcpFields> = {}): void {
    this.stack.receive(this.now, this.segment(flags, position, ackPosition, more))
    this.stack.flush(this.now)
  }

  /** Segments that the stack has sent since the last call. */
  take(): Array<ReadTcp> {
    return this.sent.splice(0).map(readTcp)
  }

  /** Position of a sequence number of the stack, and of its acknowledgement. */
  positions({ acknowledgement, sequence }: ReadTcp): readonly [sequence: number, acknowledgement: number] {
    return [(sequence - this.stackStart) >>> 0, (acknowledgement - peerStart) >>> 0]
  }

  /** Runs the timers until `time`. */
  advance(millis: number): void {
    const end = this.now + millis
    while (this.stack.nextTimer() <= end) {
      this.now = Math.max(this.now, this.stack.nextTimer())
      this.stack.tick(this.now)
      this.flush()
    }
    this.now = end
  }

  flush(): void {
    while (this.stack.flush(this.now)) {
      // Until nothing is left to send.
    }
  }

  listen(): void {
    this.stack.tcpListen(port, (incoming) => {
      this.connection = incoming.accept(this.now, this.handlers)
    })
  }

  /** Opens a connection from the peer to the stack. */
  open(options: ReadonlyArray<number> = usualOptions, window = 512): TcpConnection {
    this.listen()
    this.send(syn, 0, 0, { acknowledgement: 0, options, window: 65_535 })
    const [answer] = this.take()
    assert.strictEqual(answer?.flags, syn | ack)
    this.stackStart = answer!.sequence
    this.send(ack, 1, 1, { window })
    assert.deepStrictEqual(this.calls.splice(0), ["connect"])
    assert.deepStrictEqual(this.take(), [])
    return this.connection!
  }

  expectReset(): void {
    const segments = this.take()
    assert.isTrue(segments.some(({ flags }) => (flags & rst) !== 0), "no RST")
  }
}
