/** TCP segment by segment: acknowledgements, windows, losses, and the MTU. */
import { assert, it } from "@effect/vitest"
import { ack, fin, readTcp } from "./packets.ts"
import { RawPeer, usualOptions } from "./RawPeer.ts"

const bytes = (length: number, fill = 7) => Buffer.alloc(length, fill)

it("TCP acknowledges every second segment at once and a lone one within 40 ms", () => {
  const peer = new RawPeer()
  peer.open()
  peer.send(ack, 1, 1, { payload: bytes(100) })
  assert.deepStrictEqual(peer.take(), [])
  peer.send(ack, 101, 1, { payload: bytes(100) })
  assert.deepStrictEqual(peer.take().map((segment) => peer.positions(segment)), [[1, 201]])
  peer.send(ack, 201, 1, { payload: bytes(100) })
  peer.advance(40)
  assert.deepStrictEqual(peer.take().map((segment) => peer.positions(segment)), [[1, 301]])
})

it("TCP reports a gap at once with SACK, delivers in order, and ignores repeated bytes", () => {
  const peer = new RawPeer()
  peer.open()
  peer.send(ack, 11, 1, { payload: bytes(10, 2) })
  const [report] = peer.take()
  assert.deepStrictEqual(peer.positions(report!), [1, 1])
  assert.strictEqual(report!.options[2], 5)
  assert.strictEqual(report!.options.readUInt32BE(8) - report!.options.readUInt32BE(4), 10)
  peer.send(ack, 16, 1, { payload: bytes(10, 3) })
  peer.send(ack, 1, 1, { payload: bytes(12, 1) })
  peer.send(ack, 1, 1, { payload: bytes(20, 9) })
  assert.strictEqual(peer.received.toString("hex"), "01".repeat(12) + "02".repeat(8) + "03".repeat(5))
  assert.deepStrictEqual(peer.positions(peer.take().at(-1)!), [1, 26])
})

it("TCP accepts no byte beyond the window that it has sent, and more after the application has read", () => {
  const peer = new RawPeer({ limits: { receiveWindow: 4_096 } })
  const connection = peer.open()
  for (let position = 1; position < 10_000; position += 1_000) peer.send(ack, position, 1, { payload: bytes(1_000) })
  // The window field counts units of 32 bytes, rounded up.
  assert.include([4_096, 4_096 + 32], peer.received.length)
  assert.strictEqual(peer.take().at(-1)!.window, 0)
  connection.consumed(peer.received.length)
  peer.flush()
  assert.strictEqual(peer.take().at(-1)!.window << 5, 4_096)
  assert.strictEqual(peer.stack.counters.memoryBytes, 0)
})

it("TCP drops a segment with a wrong checksum", () => {
  const peer = new RawPeer()
  peer.open()
  for (const at of [24, 28, 33, 34, 40]) {
    const packet = peer.segment(ack | fin, 1, 1, { payload: bytes(10) })
    packet[at]! ^= 1
    peer.stack.receive(peer.now, packet)
    peer.flush()
  }
  assert.deepStrictEqual([peer.calls, peer.take()], [[], []])
})

it("TCP without window scale in the peer's SYN offers at most 65,535 bytes", () => {
  const peer = new RawPeer()
  peer.open([2, 4, 4, 0])
  peer.send(ack, 1, 1, { payload: bytes(10) })
  peer.send(ack, 11, 1, { payload: bytes(10) })
  assert.isAbove(peer.take()[0]!.window, 60_000)
})

it("TCP sends no segment above the peer's MSS and no byte beyond the peer's window", () => {
  const peer = new RawPeer()
  const connection = peer.open([2, 4, 2, 0, 1, 3, 3, 7, 1, 1, 4, 2], 16)
  assert.isTrue(connection.write(bytes(100_000)))
  peer.flush()
  const segments = peer.take()
  assert.isTrue(segments.every(({ payload }) => payload.length <= 512))
  assert.strictEqual(segments.reduce((sum, { payload }) => sum + payload.length, 0), 16 * 128)
})

it("TCP makes a writer wait above 256 KiB of unsent bytes and wakes it once", () => {
  const peer = new RawPeer()
  const connection = peer.open(usualOptions, 1)
  assert.isTrue(connection.write(bytes(100_000)))
  assert.isFalse(connection.write(bytes(200_000)))
  peer.flush()
  for (let done = 1; done < 300_001;) {
    const last = peer.take().at(-1)
    if (last === undefined) {
      peer.advance(1_000)
      continue
    }
    done = peer.positions(last)[0] + last.payload.length
    peer.send(ack, 1, done, { window: 1_024 })
  }
  assert.deepStrictEqual(peer.calls, ["drain"])
})

it("TCP probes a closed window for as long as the peer answers, and continues when the window opens", () => {
  const peer = new RawPeer()
  const connection = peer.open(usualOptions, 0)
  connection.write(bytes(1_000))
  peer.flush()
  let probes = 0
  for (let second = 0; second < 300; second += 1) {
    peer.advance(1_000)
    for (const segment of peer.take()) {
      assert.strictEqual(segment.payload.length, 0)
      probes += 1
      peer.send(ack, 1, 1, { window: 0 })
    }
  }
  assert.isAbove(probes, 9)
  assert.isBelow(probes, 40)
  peer.send(ack, 1, 1, { window: 100 })
  assert.strictEqual(peer.take()[0]!.payload.length, 1_000)
  assert.deepStrictEqual(peer.calls, [])
})

it("TCP gives up with ETIMEDOUT after 60 s without an answer, with growing pauses", () => {
  const peer = new RawPeer()
  const connection = peer.open()
  connection.write(bytes(1_000))
  peer.flush()
  peer.advance(60_000)
  assert.deepStrictEqual(peer.calls, [])
  const attempts = peer.take().length
  assert.isAbove(attempts, 4)
  assert.isBelow(attempts, 30)
  peer.advance(120_000)
  assert.deepStrictEqual(peer.calls, ["close ETIMEDOUT"])
  assert.strictEqual(peer.stack.counters.connections, 0)
})

it("TCP repeats the first missing segment after three duplicate acknowledgements without SACK", () => {
  const peer = new RawPeer()
  const connection = peer.open([2, 4, 1_240 >> 8, 1_240 & 255, 1, 3, 3, 7])
  connection.write(bytes(5 * 1_240))
  peer.flush()
  assert.lengthOf(peer.take(), 5)
  for (let count = 0; count < 3; count += 1) peer.send(ack, 1, 1)
  assert.deepStrictEqual(peer.positions(peer.take()[0]!)[0], 1)
})

it("TCP repeats only what SACK shows as missing", () => {
  const peer = new RawPeer()
  const connection = peer.open()
  connection.write(bytes(8 * 1_240))
  peer.flush()
  assert.lengthOf(peer.take(), 8)
  peer.now += 40
  const block = (from: number, to: number) => {
    const options = Buffer.from([1, 1, 5, 10, 0, 0, 0, 0, 0, 0, 0, 0])
    options.writeUInt32BE((peer.stackStart + from) >>> 0, 4)
    options.writeUInt32BE((peer.stackStart + to) >>> 0, 8)
    return { options: [...options] }
  }
  for (let last = 3; last <= 8; last += 1) peer.send(ack, 1, 1_241, block(1 + 2 * 1_240, 1 + last * 1_240))
  peer.advance(30)
  const repeated = peer.take().map((segment) => peer.positions(segment)[0])
  assert.deepStrictEqual(repeated, [1_241])
})

it("TCP packets with SACK blocks stay within the MTU, also when data waits to be sent and repeated", () => {
  const peer = new RawPeer()
  const connection = peer.open()
  connection.write(bytes(1_240))
  peer.flush()
  for (const position of [101, 301, 501]) peer.send(ack, position, 1, { payload: bytes(100) })
  // The probe repeats the full segment, which was sent before there were blocks.
  peer.advance(100)
  connection.write(bytes(20_000))
  peer.flush()
  peer.advance(5_000)
  assert.isAbove(peer.sent.length, 8)
  assert.isTrue(peer.sent.every((packet) => packet.length <= 1_280))
})

it("TCP halves its segments if large ones vanish, also for a segment that left room for SACK blocks", () => {
  const peer = new RawPeer()
  const connection = peer.open()
  // Shorter than the MSS, as a segment that was cut to leave room.
  connection.write(bytes(1_212))
  connection.end()
  peer.flush()
  peer.advance(8_000)
  const lengths = peer.sent.map((packet) => readTcp(packet).payload.length)
  assert.strictEqual(lengths[0], 1_212)
  assert.include(lengths, 606)
  assert.isAtMost(lengths.at(-1)!, 606)
})

it("TCP delivers nothing after the peer's FIN", () => {
  const peer = new RawPeer()
  peer.open()
  peer.send(ack | fin, 1, 1, { payload: bytes(10) })
  peer.send(ack, 12, 1, { payload: bytes(10) })
  peer.send(ack, 1, 1, { payload: bytes(50) })
  assert.deepStrictEqual(peer.calls, ["data", "end"])
  assert.lengthOf(peer.received, 10)
})

it("TCP delivers nothing from beyond a FIN that arrives late", () => {
  const peer = new RawPeer()
  peer.open()
  peer.send(ack, 21, 1, { payload: bytes(10, 9) })
  peer.send(ack | fin, 6, 1, { payload: bytes(5) })
  peer.send(ack, 1, 1, { payload: bytes(30) })
  assert.strictEqual(peer.calls.at(-1), "end")
  assert.deepStrictEqual(peer.received, bytes(10))
})
