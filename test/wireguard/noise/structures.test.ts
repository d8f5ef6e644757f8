/** Replay window, deadline heap, packet queue, limits: each against a simple model. */
import { DeadlineHeap, type HeapItem } from "#wireguard/DeadlineHeap.ts"
import { InitiationLimiter } from "#wireguard/noise/InitiationLimiter.ts"
import { PacketQueue } from "#wireguard/noise/PacketQueue.ts"
import { ReplayWindow } from "#wireguard/noise/ReplayWindow.ts"
import { assert, describe, it } from "@effect/vitest"

/** Numbers below `limit` from a fixed seed. */
const numbers = (seed: number) => {
  let state = seed >>> 0
  return (limit: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return Math.floor(state / 2 ** 32 * limit)
  }
}

describe("ReplayWindow", () => {
  const accept = (window: ReplayWindow, counter: number) => window.isNew(counter) && (window.accept(counter), true)

  it("each counter is accepted once, in any order within 8,000", () => {
    for (const start of [0, 2 ** 31 - 4000, 2 ** 32 - 4000, 2 ** 50]) {
      const window = new ReplayWindow()
      const pick = numbers(start % 1000 + 1)
      const seen = new Set<number>()
      let highest = start
      for (let i = 0; i < 20_000; i += 1) {
        const counter = Math.max(0, highest + 20 - pick(8_000))
        if (accept(window, counter) === seen.has(counter)) assert.fail(`counter ${counter} after ${highest}`)
        seen.add(counter)
        highest = Math.max(highest, counter)
      }
    }
  })

  it("a counter more than 8,160 below the highest is rejected, also after a jump over the whole window", () => {
    const window = new ReplayWindow()
    for (const counter of [0, 100_000, 92_000]) assert.isTrue(accept(window, counter), String(counter))
    for (const counter of [0, 1, 91_000, 91_800, 92_000, 100_000]) {
      assert.isFalse(accept(window, counter), String(counter))
    }
    assert.isTrue(accept(window, 100_000 - 8_159))
  })
})

describe("DeadlineHeap", () => {
  it("the first item has the earliest deadline after any changes", () => {
    const pick = numbers(7)
    const heap = new DeadlineHeap<HeapItem>()
    const items = Array.from({ length: 100 }, () => ({ deadline: Infinity, heapIndex: -1 }))
    for (let i = 0; i < 3_000; i += 1) {
      heap.set(items[pick(items.length)]!, pick(4) === 0 ? Infinity : pick(1_000))
      const deadlines = items.map(({ deadline }) => deadline)
      assert.strictEqual(heap.first?.deadline ?? Infinity, Math.min(...deadlines))
      assert.strictEqual(heap.size, deadlines.filter((deadline) => deadline !== Infinity).length)
    }
  })
})

describe("PacketQueue", () => {
  it("a peer keeps its newest 128 packets, and all peers together 4,096", () => {
    const budget = { waitingPackets: 0, counters: { droppedPackets: 0 } }
    const packet = (number: number) => Buffer.of(number >> 8, number & 255)
    const queue = new PacketQueue(budget)
    for (let i = 0; i < 200; i += 1) queue.add(packet(i))
    assert.strictEqual(budget.counters.droppedPackets, 72)
    assert.deepStrictEqual(queue.takeAll(), Array.from({ length: 128 }, (_, i) => packet(72 + i)))
    assert.strictEqual(budget.waitingPackets, 0)

    const queues = Array.from({ length: 100 }, () => new PacketQueue(budget))
    for (const each of queues) for (let i = 0; i < 100; i += 1) each.add(packet(i))
    assert.strictEqual(budget.waitingPackets, 4096)
    for (const each of queues) each.dropAll()
    assert.strictEqual(budget.waitingPackets, 0)
    assert.strictEqual(budget.counters.droppedPackets, 72 + 100 * 100)
  })

  it("a packet that waits is a copy", () => {
    const queue = new PacketQueue({ waitingPackets: 0, counters: { droppedPackets: 0 } })
    const packet = Buffer.from("first")
    queue.add(packet)
    packet.fill(0)
    assert.deepStrictEqual(queue.takeAll(), [Buffer.from("first")])
  })
})

describe("InitiationLimiter", () => {
  const limits = { perSecond: 10, burst: 20, provenPerSecond: 30, perSource: 5 }
  const count = (limiter: InitiationLimiter, now: number, host: (i: number) => string, hasProof: boolean) => {
    const counts = { "answer": 0, "send cookie": 0, "drop": 0 }
    for (let i = 0; i < 100; i += 1) counts[limiter.decide(now, host(i), () => hasProof)] += 1
    return counts
  }

  it("20 at once and 10 a second need no cookie, and the others are sent one", () => {
    const limiter = new InitiationLimiter(limits)
    const host = (i: number) => `192.0.2.${i}`
    assert.deepStrictEqual(count(limiter, 0, host, false), { "answer": 20, "send cookie": 80, "drop": 0 })
    assert.deepStrictEqual(count(limiter, 500, host, false), { "answer": 5, "send cookie": 95, "drop": 0 })
  })

  it("with cookies, one source has 5 a second and all sources have 30", () => {
    const limiter = new InitiationLimiter(limits)
    assert.deepStrictEqual(count(limiter, 0, () => "192.0.2.1", true), { "answer": 25, "send cookie": 0, "drop": 75 })
    assert.deepStrictEqual(
      count(limiter, 0, (i) => `198.51.100.${i}`, true),
      { "answer": 25, "send cookie": 0, "drop": 75 }
    )
  })

  it("all addresses of an IPv6 /64 are one source", () => {
    const limiter = new InitiationLimiter({ ...limits, perSecond: 0, burst: 0 })
    const host = (i: number) => i % 2 === 0 ? `2001:db8:0:1::${i}` : `2001:db8::1:0:0:${i}:1`
    assert.strictEqual(count(limiter, 0, host, true).answer, 5)
    assert.strictEqual(count(limiter, 0, (i) => `2001:db8:0:${i}::1`, true).answer, 25)
  })

  it("cookie replies are limited to 1,000 a second", () => {
    const limiter = new InitiationLimiter({ ...limits, perSecond: 0, burst: 0 })
    let cookies = 0
    for (let i = 0; i < 5_000; i += 1) if (limiter.decide(0, "192.0.2.1", () => false) === "send cookie") cookies += 1
    assert.strictEqual(cookies, 1_000)
  })
})
