/** Tests of the real Control on a simulated database and network, with random clients, operators and faults. */
import { assert, describe, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { rareEvents, requiredCoverage } from "./requiredCoverage.ts"
import { mutants } from "./mutations.ts"
import { describeFailure, failuresOf, runSeedsInBatches } from "./runSeeds.ts"
import seeds from "./seeds.json" with { type: "json" }
import { simulate } from "./Simulation.ts"

describe("simulation", () => {
  it("equal seeds give equal traces, and different seeds give different ones", () => {
    for (const seed of [7, 8, 9, 10, 11]) {
      const [one, same] = [simulate(seed, { traced: true }), simulate(seed, { traced: true })]
      assert.deepStrictEqual(one.lines, same.lines)
      assert.strictEqual(one.hash, same.hash)
      assert.notStrictEqual(one.hash, simulate(seed + 1).hash)
    }
  })

  it("every edit of every mutant fits the code exactly once", () => {
    const root = join(import.meta.dirname, "..", "..")
    const misfits = mutants.flatMap(({ edits, name }) =>
      edits.filter(({ file, find }) => readFileSync(join(root, file), "utf8").split(find).length !== 2)
        .map(({ file, find }) => `${name}: ${file}: ${find}`)
    )
    assert.deepStrictEqual(misfits, [])
  })

  it("seeds that failed once pass now", () => {
    assert.deepStrictEqual(seeds.flatMap(({ seed }) => failuresOf(simulate(seed))).map(describeFailure), [])
  })

  it("300 seeds break no guarantee of the protocol, and cover all frequent events", async () => {
    const { counters, failures } = await runSeedsInBatches(1, 300)
    assert.deepStrictEqual(failures.map(describeFailure), [])
    const frequent = requiredCoverage.filter((name) => !rareEvents.has(name))
    assert.deepStrictEqual(frequent.filter((name) => counters[name] === undefined), [])
  }, 180_000)
})
