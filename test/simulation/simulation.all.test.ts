/** Long form of the simulation: 1,000 seeds, which must cover every required event. */
import { assert, describe, it } from "@effect/vitest"
import { requiredCoverage } from "./requiredCoverage.ts"
import { describeFailure, runSeedsInBatches } from "./runSeeds.ts"

describe("simulation", () => {
  it("1,000 seeds break no guarantee of the protocol, and cover all required events", async () => {
    const { counters, failures } = await runSeedsInBatches(1, 1_000)
    assert.deepStrictEqual(failures.map(describeFailure), [])
    assert.deepStrictEqual(requiredCoverage.filter((name) => counters[name] === undefined), [])
  }, 600_000)
})
