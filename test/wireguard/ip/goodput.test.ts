/** Speed of one connection in virtual time. */
import { assert, it } from "@effect/vitest"
import { cleanLink, type Link, twoHosts } from "./IpWorld.ts"
import { openPair } from "./TestEnd.ts"

/** Bytes per millisecond of one download, from the SYN to the last byte. */
const goodput = (link: Partial<Link>, bytes: number, seed = 1): number => {
  const { left, right, world } = twoHosts(seed)
  world.link = { ...cleanLink, delay: 20, ...link }
  const pair = openPair(left, right, { passive: { bytes, chunkBytes: 65_536 } }, 20_000)
  world.runUntil(600_000, () => pair.active.received === bytes)
  assert.strictEqual(pair.active.received, bytes)
  return bytes / world.now
}

it("a clean link with a round trip of 40 ms carries at least 75 % of a 1 MiB window in each round trip", () => {
  assert.isAbove(goodput({}, 40_000_000), 0.75 * 1_048_576 / 40)
})

it("a link of 2 MB/s with a short queue is used by at least 80 %", () => {
  assert.isAbove(goodput({ rate: 2_000, queueMillis: 50 }, 12_000_000), 0.8 * 2_000)
})

it("a loss of 1 % with a round trip of 40 ms leaves at least 250 KB/s", () => {
  assert.isAbove(goodput({ loss: 0.01 }, 3_000_000), 250)
})

it("reordering without loss leaves at least 1 MB/s with a round trip of 40 ms", () => {
  assert.isAbove(goodput({ delay: 18, jitter: 4 }, 5_000_000), 1_000)
})

it("a path that drops packets above 1,240 bytes carries a download after two timeouts", () => {
  assert.isAbove(goodput({ maxBytes: 1_240 }, 3_000_000), 500)
})
