/** Hostile datagrams leave memory as it is: 200,000 of them. */
import { assert, it } from "@effect/vitest"
import { sendHostileDatagrams } from "./hostileDatagrams.ts"

const liveBytes = () => {
  globalThis.gc?.()
  const { arrayBuffers, heapUsed } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

it("200,000 random, mutated and replayed datagrams never throw, deliver no packet, and leave memory flat", () => {
  sendHostileDatagrams(2, 20_000)
  const before = liveBytes()
  sendHostileDatagrams(3, 200_000)
  assert.isBelow(liveBytes() - before, 32 * 1024 * 1024)
}, 120_000)
