/** Two stacks through loss, reordering, black holes, restarts and clock jumps: 50 seeds. */
import { assert, it } from "@effect/vitest"
import { runSeed } from "./runSeed.ts"

it("every byte arrives once and in order, or both ends of the connection end with an error, in 50 seeds", () => {
  let done = 0
  for (let seed = 0; seed < 50; seed += 1) {
    const result = runSeed(seed)
    assert.isUndefined(result.violation, `seed ${seed}`)
    done += result.done
  }
  assert.isAbove(done, 100)
})
