/** Declares a vitest test for each of some faults, with a small fleet and generous time limits. */
import { assert, describe, it } from "@effect/vitest"
import { afterAll } from "vitest"
import { allFaults } from "./allFaults.ts"
import { ClusterPool, runFaultOnce } from "./runFaults.ts"

/** Other test files share the machine, so that time limits are four times those of `npm run faults`. */
const options = { clients: 16, seed: 1, repeat: 1, timeFactor: 4 }

export const describeFaults = (name: string, guarantees: Readonly<Record<string, string>>): void => {
  describe(name, () => {
    const clusters = new ClusterPool(options)
    afterAll(() => clusters.close())

    for (const [id, guarantee] of Object.entries(guarantees)) {
      it(`${guarantee} (${id})`, { timeout: 240_000 }, async () => {
        const fault = allFaults.find((each) => each.id === id)
        assert.isDefined(fault)
        const run = await runFaultOnce(fault, options, options.seed, clusters)
        assert.deepStrictEqual(run.failures, [], run.observations.join("; "))
      })
    }
  })
}
