/** Two WireGuard machines through loss, reordering, restarts and clock jumps: 50 seeds. */
import { assert, it } from "@effect/vitest"
import { runSeed } from "./runSeed.ts"

it("packets pass within 25 s after the trouble of 50 seeds, no packet twice, and memory is bounded", () => {
  for (let seed = 0; seed < 50; seed += 1) assert.isUndefined(runSeed(seed).violation, `seed ${seed}`)
})
