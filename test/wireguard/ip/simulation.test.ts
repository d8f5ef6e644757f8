/** Two stacks through loss, reordering, black holes, restarts and clock jumps: 50 seeds. */
import { assert, it } from "@effect/vitest"
import { runSeeds, seedRange } from "./runSeed.ts"

it("every byte arrives once and in order, or both ends of the connection end with an error, in 50 seeds", () => {
  const { done, violations } = runSeeds(seedRange(0, 50))
  assert.deepStrictEqual(violations, [])
  assert.isAbove(done, 100)
})
