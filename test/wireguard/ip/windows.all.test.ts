/** Windows, sizes of segments and pauses of TCP, as a peer sees them. */
import { assert, it } from "@effect/vitest"
import { seededRandom } from "#support/SeededRandom.ts"
import { cleanLink, twoHosts } from "./IpWorld.ts"
import { ack, fin, psh, rst, syn } from "./packets.ts"
import { RawPeer, usualOptions } from "./RawPeer.ts"
import { openPair } from "./TestEnd.ts"

const ownShift = 5

it("the right edge of the window never moves back, whatever arrives and however slowly the application reads", () => {
  for (let seed = 0; seed < 8; seed += 1) {
    const { int, pick } = seededRandom(seed, 1)
    const peer = new RawPeer()
    const connection = peer.open()
    let position = 1
    let edge = 0
    for (let turn = 0; turn < 400; turn += 1) {
      const length = Math.min(pick([1, 7, 33, 500, 1_240]), Math.max(0, edge - position))
      if (length > 0) {
        peer.send(ack | psh, position, 1, { payload: Buffer.alloc(length) })
        position += length
      } else peer.send(ack, position - 1, 1)
      if (pick([true, false])) connection.consumed(int(600))
      peer.flush()
      for (const segment of peer.take()) {
        const next = peer.positions(segment)[1] + segment.window * 2 ** ownShift
        assert.isAtLeast(next, edge, `seed ${seed}`)
        edge = next
      }
      peer.advance(30)
    }
    assert.isAbove(position, 10_000)
  }
})

it("a slow reader causes no tiny windows: the window stays until it can grow by a segment", () => {
  const peer = new RawPeer({ limits: { receiveWindow: 20_000 } })
  const connection = peer.open()
  for (let position = 1; position < 20_000; position += 1_000) {
    peer.send(ack, position, 1, { payload: Buffer.alloc(Math.min(1_000, 20_000 - position)) })
  }
  peer.advance(100)
  // Each of 20 windows was rounded up by less than one unit.
  const stuck = peer.take().at(-1)!.window
  assert.isAtMost(stuck, 20)
  for (let read = 0; read < 1_000; read += 100) {
    connection.consumed(100)
    peer.send(ack, 1, 1)
    for (const { window } of peer.take()) assert.isAtMost(window, stuck)
  }
  connection.consumed(5_000)
  peer.flush()
  assert.isAtLeast(peer.take().at(-1)!.window * 2 ** ownShift, 5_000)
})

it("an acknowledgement that was overtaken by a newer one does not narrow the window", () => {
  const peer = new RawPeer()
  const connection = peer.open(usualOptions, 0)
  connection.write(Buffer.alloc(3_000))
  peer.send(ack, 1, 1, { window: 0 })
  peer.send(ack, 101, 1, { window: 8 })
  assert.strictEqual(peer.take().reduce((sum, { payload }) => sum + payload.length, 0), 1_024)
  peer.send(ack, 101, 1_025, { window: 100 })
  assert.strictEqual(peer.take().reduce((sum, { payload }) => sum + payload.length, 0), 3_000 - 1_024)
  peer.send(ack, 51, 1_025, { window: 0 })
  connection.write(Buffer.alloc(100))
  peer.flush()
  assert.strictEqual(peer.take().reduce((sum, { payload }) => sum + payload.length, 0), 100)
})

it("a clock that jumps ahead ends no connection whose peer still answers", () => {
  const { left, right, world } = twoHosts(1)
  const plan = { bytes: 400_000, endsLast: false, keepAlive: 20_000 }
  world.link = { ...cleanLink, delay: 50, rate: 100 }
  const pairs = [
    openPair(left, right, { active: plan, passive: { ...plan, readDelay: 1 } }, 20_000),
    openPair(left, right, { active: { ...plan, bytes: 0 }, passive: { ...plan, endsLast: true } }, 20_001)
  ]
  for (const [at, host] of [[1_000, left], [2_000, right], [3_000, left]] as const) {
    world.at(at, () => host.jump(200_000))
  }
  world.runUntil(300_000)
  assert.deepStrictEqual(pairs.flatMap(({ active, passive }) => [active.outcome, passive?.outcome]), [
    "done",
    "done",
    "done",
    "done"
  ])
})

it("after an outage, segments have their full size again; on a path for small packets they stay small", () => {
  const sizes = (maxBytes: number) => {
    const { left, right, world } = twoHosts(2)
    world.link = { ...cleanLink, delay: 5, rate: 1_000, maxBytes }
    openPair(left, right, { active: { bytes: 30_000_000, chunkBytes: 65_536 } }, 20_000)
    world.at(1_000, () => world.link = { ...world.link, loss: 1 })
    world.at(4_000, () => world.link = { ...world.link, loss: 0 })
    world.runUntil(15_000)
    world.samples.length = 0
    world.runUntil(16_000)
    const data = world.samples.filter((packet) => packet.length > 100).map(({ length }) => length)
    assert.isAbove(data.length, 50)
    return Math.max(...data)
  }
  assert.strictEqual(sizes(Infinity), 1_280)
  assert.isAtMost(sizes(1_000), 1_000)
})

it("a window that was idle for many round trips begins small again", () => {
  const { left, right, world } = twoHosts(3)
  world.link = { ...cleanLink, delay: 20 }
  const { active } = openPair(left, right, {
    active: { bytes: 3_000_000, endsLast: true },
    passive: { endsLast: true }
  }, 20_000)
  world.runUntil(20_000)
  const before = world.packets
  for (let count = 0; count < 20; count += 1) active.connection!.write(Buffer.alloc(65_536))
  left.scheduleFlush()
  world.runUntil(20_015)
  assert.isAbove(world.packets - before, 8)
  assert.isBelow(world.packets - before, 30)
})

it("bytes after a FIN are not delivered, and the end is reported once", () => {
  const peer = new RawPeer()
  peer.open()
  peer.send(ack, 101, 1, { payload: Buffer.alloc(50, 2) })
  peer.send(ack | fin, 51, 1, { payload: Buffer.alloc(50, 1) })
  peer.send(ack | fin, 101, 1)
  peer.send(ack, 1, 1, { payload: Buffer.alloc(200, 3) })
  peer.send(ack | fin, 151, 1, { payload: Buffer.alloc(10, 4) })
  assert.strictEqual(peer.calls.filter((call) => call === "end").length, 1)
  assert.isAtMost(peer.received.length, 150)
  assert.strictEqual(peer.calls.at(-1), "end")
})

it("an acknowledgement of another connection is rejected with RST during the handshake", () => {
  const peer = new RawPeer()
  peer.listen()
  peer.send(syn, 0, 0, { acknowledgement: 0, options: usualOptions })
  peer.stackStart = peer.take()[0]!.sequence
  peer.send(ack, 1, 7_000)
  assert.deepStrictEqual(peer.take().map(({ flags, sequence }) => [flags, (sequence - peer.stackStart) >>> 0]), [[
    rst,
    7_000
  ]])
  peer.send(ack, 1, 1)
  assert.deepStrictEqual(peer.calls, ["connect"])
})

it("a SYN that waits for the application takes the number of a restarted peer, and ends with its RST only", () => {
  const peer = new RawPeer()
  const incoming: Array<() => void> = []
  peer.stack.tcpListen(20_000, (offered) => {
    incoming.push(() => void (peer.connection = offered.accept(peer.now, peer.handlers)))
  })
  peer.send(syn, 0, 0, { acknowledgement: 0, options: usualOptions })
  peer.send(rst, 700, 0)
  peer.send(syn, 5_000, 0, { acknowledgement: 0, options: usualOptions })
  assert.lengthOf(incoming, 1)
  incoming[0]!()
  peer.flush()
  assert.strictEqual(peer.positions(peer.take()[0]!)[1], 5_001)

  const other = new RawPeer()
  other.stack.tcpListen(20_000, (offered) => {
    other.send(rst, 1, 0)
    other.connection = offered.accept(other.now, other.handlers)
  })
  other.send(syn, 0, 0, { acknowledgement: 0, options: usualOptions })
  assert.deepStrictEqual([other.calls, other.take(), other.stack.counters.connections], [["close ECONNRESET"], [], 0])
  assert.strictEqual(other.stack.nextTimer(), Infinity)
})

it("a late repetition of the SYN of a closed connection opens nothing", () => {
  const peer = new RawPeer()
  peer.open().end()
  peer.flush()
  peer.send(fin | ack, 1, 2)
  peer.take()
  peer.send(syn, 0, 0, { acknowledgement: 0, options: usualOptions })
  assert.deepStrictEqual(peer.take().map(({ flags }) => flags), [ack])
})

it("a connection that is reset in any callback leaves neither a timer nor memory", () => {
  for (const call of ["onConnect", "onData", "onEnd", "onDrain"] as const) {
    const peer = new RawPeer()
    const resets = () => peer.connection!.reset()
    Object.assign(peer.handlers, { [call]: () => resets() })
    peer.listen()
    peer.send(syn, 0, 0, { acknowledgement: 0, options: usualOptions })
    peer.stackStart = peer.take()[0]!.sequence
    peer.send(ack, 1, 1, { window: 8_000 })
    peer.connection!.write(Buffer.alloc(600_000))
    peer.flush()
    peer.send(ack, 101, 1, { payload: Buffer.alloc(100) })
    for (let position = 1; position < 600_000; position += 1_240) peer.send(ack, 1, position, { window: 8_000 })
    peer.send(ack | fin, 1, 600_001, { payload: Buffer.alloc(200) })
    assert.strictEqual(peer.calls.at(-1), "close done", call)
    const { connections, memoryBytes } = peer.stack.counters
    assert.deepStrictEqual([connections, memoryBytes, peer.stack.nextTimer()], [0, 0, Infinity], call)
  }
})

it("the end that closes last forgets the connection at once, also by a RST when only its FIN is not acknowledged", () => {
  for (const [flags, ackPosition, outcome] of [[ack, 2, "done"], [rst, 0, "done"], [rst, 0, "ECONNRESET"]] as const) {
    const peer = new RawPeer()
    const connection = peer.open()
    peer.send(ack | fin, 1, 1)
    if (outcome === "ECONNRESET") connection.write(Buffer.alloc(10))
    connection.end()
    peer.flush()
    peer.send(flags, 2, ackPosition)
    assert.deepStrictEqual(peer.calls, ["end", `close ${outcome}`])
    assert.deepStrictEqual([peer.stack.counters.connections, peer.stack.nextTimer()], [0, Infinity])
  }
})

it("losses at a full queue narrow the window: fewer than 5 % of the segments are sent twice", () => {
  const { left, right, world } = twoHosts(4)
  world.link = { ...cleanLink, delay: 20, rate: 2_000, queueMillis: 30 }
  const bytes = 12_000_000
  openPair(left, right, { active: { bytes, chunkBytes: 65_536 } }, 20_000)
  let sent = 0
  const carry = world.carry.bind(world)
  world.carry = (from, packet) => {
    if (from === left) sent += packet.length - 40
    carry(from, packet)
  }
  world.runUntil(60_000)
  assert.isAtLeast(sent, bytes)
  assert.isBelow(sent, 1.05 * bytes)
})
