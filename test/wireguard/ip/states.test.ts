/** TCP connections from their begin to their end: handshakes, resets, limits, and late segments. */
import { assert, it } from "@effect/vitest"
import { cleanLink, twoHosts } from "./IpWorld.ts"
import { ack, fin, rst, syn, tcpPacket } from "./packets.ts"
import { peerAddress, RawPeer, stackAddress, usualOptions } from "./RawPeer.ts"
import { openPair } from "./TestEnd.ts"

it("a port without a listener answers SYN with RST, which the other end reports as ECONNREFUSED", () => {
  const peer = new RawPeer()
  peer.send(syn, 0, 0, { options: usualOptions })
  assert.deepStrictEqual(peer.take().map(({ flags }) => flags), [rst | ack])
  peer.send(rst, 0, 0)
  assert.deepStrictEqual(peer.take(), [])
})

it("a listener can answer a SYN 10 s later, and its repetitions open no other connection", () => {
  const { left, right, world } = twoHosts(1)
  const pair = openPair(left, right, { active: { bytes: 10 }, passive: { bytes: 10 } }, 20_000, 10_000)
  world.runUntil(9_999)
  assert.isFalse(pair.active.isConnected)
  world.runUntil(11_000)
  assert.deepStrictEqual([pair.active.outcome, pair.passive?.outcome, pair.active.received], ["done", "done", 10])
})

it("a rejected connection ends with ECONNREFUSED", () => {
  const { left, right, world } = twoHosts(2)
  const pair = openPair(left, right, {}, 20_000)
  // The second connection to the same listener is rejected.
  world.runUntil(1_000)
  const calls: Array<string> = []
  left.stack.tcpConnect(left.now, { localAddress: left.address, address: right.address, port: 20_000 }, {
    onConnect: () => calls.push("connect"),
    onData: () => calls.push("data"),
    onEnd: () => calls.push("end"),
    onDrain: () => calls.push("drain"),
    onClose: (code) => calls.push(`close ${code}`)
  })
  left.scheduleFlush()
  world.runUntil(2_000)
  assert.deepStrictEqual(calls, ["close ECONNREFUSED"])
  assert.strictEqual(pair.active.outcome, "done")
})

it("two ends that connect to each other at the same time share one connection", () => {
  const { left, right, world } = twoHosts(3)
  const calls: Array<string> = []
  const handlers = (name: string) => ({
    onConnect: () => void calls.push(`${name} connect`),
    onData: (chunk: Buffer) => void calls.push(`${name} ${chunk.toString()}`),
    onEnd: () => {},
    onDrain: () => {},
    onClose: () => {}
  })
  // Both choose the same pair of ports.
  world.random32 = () => 7
  const port = 32_768 + 7
  const ends = [[left, right], [right, left]] as const
  for (const [from, to] of ends) {
    const connection = from.stack.tcpConnect(
      from.now,
      { localAddress: from.address, address: to.address, port },
      handlers(from.address)
    )
    connection?.write(Buffer.from("hello"))
    from.scheduleFlush()
  }
  world.runUntil(1_000)
  assert.sameMembers(calls, ["10.0.0.1 connect", "10.0.0.1 hello", "10.0.0.2 connect", "10.0.0.2 hello"])
  assert.isBelow(world.packets, 12)
})

it("a RST ends a connection only with the expected sequence number; in the window it is challenged", () => {
  const peer = new RawPeer()
  peer.open()
  peer.send(rst, 500, 1)
  assert.deepStrictEqual(peer.take().map((segment) => peer.positions(segment)), [[1, 1]])
  peer.send(rst, 10_000_000, 1)
  assert.deepStrictEqual([peer.take(), peer.calls], [[], []])
  peer.send(rst, 1, 1)
  assert.deepStrictEqual(peer.calls, ["close ECONNRESET"])
})

it("a SYN in a connection is challenged at most every 100 ms, and ends nothing", () => {
  const peer = new RawPeer()
  peer.open()
  for (let count = 0; count < 50; count += 1) peer.send(syn, 1_000 + count, 1, { options: usualOptions })
  assert.deepStrictEqual(peer.take().map((segment) => peer.positions(segment)), [[1, 1]])
  assert.deepStrictEqual(peer.calls, [])
})

it("an acknowledgement of bytes that were never sent is challenged", () => {
  const peer = new RawPeer()
  peer.open()
  peer.send(ack, 1, 5_000, { payload: Buffer.alloc(10) })
  assert.deepStrictEqual(peer.take().map((segment) => peer.positions(segment)), [[1, 1]])
  assert.deepStrictEqual(peer.calls, [])
})

it("the end that closes first repeats the last acknowledgement for 10 s, and then forgets the connection", () => {
  const peer = new RawPeer()
  peer.open().end()
  peer.flush()
  assert.deepStrictEqual(peer.take().map(({ flags }) => flags), [fin | ack])
  peer.send(fin | ack, 1, 2)
  assert.deepStrictEqual(peer.calls, ["end", "close done"])
  peer.take()
  peer.advance(9_000)
  peer.send(fin | ack, 1, 2)
  assert.deepStrictEqual(peer.take().map((segment) => peer.positions(segment)), [[2, 2]])
  peer.advance(9_000)
  assert.strictEqual(peer.stack.counters.connections, 1)
  peer.advance(2_000)
  assert.strictEqual(peer.stack.counters.connections, 0)
})

it("a SYN from the ports of a closed connection opens a new one", () => {
  const peer = new RawPeer()
  peer.open().end()
  peer.flush()
  peer.send(fin | ack, 1, 2)
  peer.take()
  peer.calls.length = 0
  peer.send(syn, 100_000, 0, { acknowledgement: 0, options: usualOptions })
  assert.deepStrictEqual(peer.take().map(({ flags }) => flags), [syn | ack])
  assert.deepStrictEqual(peer.calls, [])
})

it("each direction ends by itself: an end that has received FIN can still send", () => {
  const { left, right, world } = twoHosts(4)
  const pair = openPair(left, right, { active: { bytes: 100 }, passive: { bytes: 300_000, endsLast: false } }, 20_000)
  const late = openPair(right, left, { active: { bytes: 300_000, endsLast: true }, passive: { bytes: 5 } }, 20_001)
  world.runUntil(60_000)
  assert.deepStrictEqual(
    [pair.active.outcome, pair.active.received, late.passive?.received, late.active.outcome],
    ["done", 300_000, 300_000, "done"]
  )
})

it("keepalive ends a connection whose peer has vanished, and no other", () => {
  const { left, right, world } = twoHosts(5)
  const vanished = openPair(
    left,
    right,
    { active: { keepAlive: 30_000, endsLast: true }, passive: { endsLast: true } },
    20_000
  )
  world.runUntil(600_000)
  assert.strictEqual(vanished.active.outcome, "open")
  world.link = { ...cleanLink, loss: 1 }
  world.runUntil(600_000 + 30_000 + 5 * 15_000 + 1_000)
  assert.strictEqual(vanished.active.outcome, "ETIMEDOUT")
})

it("the connections of a removed address are reset, and those to a removed peer end without a packet", () => {
  const { left, right, world } = twoHosts(6)
  const plan = { bytes: 10_000_000, endsLast: true }
  const first = openPair(left, right, { active: plan, passive: plan }, 20_000)
  world.runUntil(100)
  right.stack.setLocalAddresses([])
  world.runUntil(200)
  assert.deepStrictEqual([first.passive?.outcome, first.active.outcome], ["ECONNRESET", "ECONNRESET"])
  right.stack.setLocalAddresses([right.address])
  const second = openPair(left, right, { active: plan, passive: plan }, 20_001)
  world.runUntil(300)
  const { packets } = world
  left.stack.closeConnectionsTo(right.address)
  assert.deepStrictEqual([second.active.outcome, world.packets], ["EHOSTUNREACH", packets])
})

it("SYNs above the limits are rejected, per address and in all", () => {
  const peer = new RawPeer({ limits: { maxPendingPerAddress: 3, maxPending: 5 } })
  peer.stack.tcpListen(20_000, () => {})
  const open = (from: string, fromPort: number) => {
    peer.stack.receive(
      peer.now,
      tcpPacket({
        from,
        fromPort,
        to: stackAddress,
        toPort: 20_000,
        sequence: 1,
        acknowledgement: 0,
        flags: syn,
        window: 1_000
      })
    )
  }
  for (let port = 1; port <= 5; port += 1) open(peerAddress, port)
  assert.lengthOf(peer.take(), 2)
  for (let port = 1; port <= 5; port += 1) open("10.0.0.3", port)
  assert.lengthOf(peer.take(), 3)
  assert.strictEqual(peer.stack.counters.refused, 5)
})

it("memory of all connections is bounded: above the limit new connections and data are rejected", () => {
  const limits = { maxMemoryBytes: 4 * 1024 * 1024 }
  const { left, right, world } = twoHosts(7, limits)
  world.link = { ...cleanLink, rate: 5_000, queueMillis: Infinity }
  const sender = { bytes: 150_000, endsLast: true }
  const pairs = Array.from(
    { length: 100 },
    (_, number) => openPair(left, right, { active: sender, passive: { readDelay: 1_000_000 } }, 20_000 + number)
  )
  world.runUntil(4_000)
  assert.isAbove(right.stack.counters.memoryBytes, limits.maxMemoryBytes)
  assert.isBelow(right.stack.counters.memoryBytes, limits.maxMemoryBytes + 512 * 1024)
  openPair(left, right, {}, 21_000)
  world.runUntil(5_000)
  assert.strictEqual(right.stack.counters.refused + left.stack.counters.refused, 0, "the left stack is full, too")
  left.stack.closeConnectionsTo(right.address)
  const late = openPair(left, right, {}, 21_001)
  world.runUntil(6_000)
  assert.deepStrictEqual([late.active.outcome, right.stack.counters.refused], ["ECONNREFUSED", 1])
  for (const { passive } of pairs) passive!.reset()
  assert.deepStrictEqual([left.stack.counters.memoryBytes, right.stack.counters.memoryBytes], [0, 0])
})
