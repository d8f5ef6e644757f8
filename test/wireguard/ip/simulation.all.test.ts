/** Two stacks through loss, reordering, black holes, restarts and clock jumps: 1,000 seeds. */
import { assert, it } from "@effect/vitest"
import { runSeeds, seedRange } from "./runSeed.ts"

it("every byte arrives once and in order, or both ends of the connection end with an error, in 1,000 seeds", () => {
  assert.deepStrictEqual(runSeeds(seedRange(1_000, 1_000)).violations, [])
}, 600_000)
