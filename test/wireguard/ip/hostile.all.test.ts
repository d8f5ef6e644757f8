/** Hostile packets leave memory as it is: 200,000 of them. */
import { assert, it } from "@effect/vitest"
import { setImmediate } from "node:timers/promises"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { sendHostilePackets } from "./hostilePackets.ts"

setFlagsFromString("--expose-gc")
const collectGarbage: () => void = runInNewContext("gc")

/** Array buffers are released in the turns after a collection. */
const liveBytes = async () => {
  for (let turn = 0; turn < 4; turn += 1) {
    collectGarbage()
    await setImmediate()
  }
  const { arrayBuffers, heapUsed } = process.memoryUsage()
  return heapUsed + arrayBuffers
}

it("200,000 random and mutated packets never throw, and leave memory flat", async () => {
  sendHostilePackets(2, 20_000)
  const before = await liveBytes()
  sendHostilePackets(3, 200_000)
  assert.isBelow(await liveBytes() - before, 4 * 1024 * 1024)
}, 120_000)
