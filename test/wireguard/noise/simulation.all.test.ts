/** Two WireGuard machines through loss, reordering, restarts and clock jumps: 1,000 seeds. */
import { assert, it } from "@effect/vitest"
import { runSeed } from "./runSeed.ts"

it("packets pass within 25 s after the trouble of 1,000 seeds, no packet twice, and memory is bounded", () => {
  for (let seed = 1_000; seed < 2_000; seed += 1) assert.isUndefined(runSeed(seed).violation, `seed ${seed}`)
}, 300_000)
