/** Speed of one connection in virtual time. */
import { assert, it } from "@effect/vitest"
import { cleanLink, type Link, twoHosts } from "./IpWorld.ts"
import { openPair } from "./TestEnd.ts"

/** Bytes per millisecond of one download, after the first `skipped` bytes. */
const goodput = (link: Partial<Link>, bytes: number, skipped = 0): number => {
  const { left, right, world } = twoHosts(1)
  world.link = { ...cleanLink, delay: 20, ...link }
  const { active } = openPair(left, right, { passive: { bytes, chunkBytes: 65_536 } }, 20_000)
  world.runUntil(600_000, () => active.received >= skipped)
  const begin = { at: skipped === 0 ? 0 : world.now, received: skipped === 0 ? 0 : active.received }
  world.runUntil(600_000, () => active.received === bytes)
  assert.deepStrictEqual([active.received, active.violation], [bytes, undefined])
  return (bytes - begin.received) / (world.now - begin.at)
}

it("a clean link with a round trip of 40 ms carries 1 MiB in each round trip after the start", () => {
  assert.isAbove(goodput({}, 14_000_000, 9_000_000), 0.9 * 1_048_576 / 40)
})

it("a link of 2 MB/s with a short queue is used by at least 80 %", () => {
  assert.isAbove(goodput({ rate: 2_000, queueMillis: 50 }, 6_000_000), 0.8 * 2_000)
})

it("a random loss of 1 % with a round trip of 40 ms leaves at least 2.5 MB/s", () => {
  assert.isAbove(goodput({ loss: 0.01 }, 5_000_000), 2_500)
})

it("reordering without loss leaves at least 1 MB/s with a round trip of 40 ms", () => {
  assert.isAbove(goodput({ delay: 18, jitter: 4 }, 3_000_000), 1_000)
})

it("a path that drops packets above 1,240 bytes carries a download after two timeouts", () => {
  assert.isAbove(goodput({ maxBytes: 1_240 }, 2_000_000), 500)
})
