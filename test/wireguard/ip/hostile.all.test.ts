/** Hostile packets leave memory as it is: 200,000 of them. */
import { assert, it } from "@effect/vitest"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { sendHostilePackets } from "./hostilePackets.ts"

setFlagsFromString("--expose-gc")
const collectGarbage: () => void = runInNewContext("gc")

const liveBytes = () => {
  collectGarbage()
  const { arrayBuffers, heapUsed } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

it("200,000 random and mutated packets never throw, and leave memory flat", () => {
  sendHostilePackets(2, 20_000)
  const before = liveBytes()
  sendHostilePackets(3, 200_000)
  assert.isBelow(liveBytes() - before, 4 * 1024 * 1024)
}, 120_000)
