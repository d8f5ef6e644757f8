/** Two stacks through loss, reordering, black holes, restarts and clock jumps: 1,000 seeds. */
import { assert, it } from "@effect/vitest"
import { runSeed } from "./runSeed.ts"

it("every byte arrives once and in order, or both ends of the connection end with an error, in 1,000 seeds", () => {
  for (let seed = 1_000; seed < 2_000; seed += 1) assert.isUndefined(runSeed(seed).violation, `seed ${seed}`)
}, 600_000)
