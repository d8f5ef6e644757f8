/** Tests of the real Control on a simulated database and network, with random clients, operators and faults. */
import { assert, describe, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { requiredCoverage } from "./requiredCoverage.ts"
import { mutants } from "./mutations.ts"
import { describeFailure, failuresOf, mergeSummaries, runSeeds, type Summary } from "./runSeeds.ts"
import seeds from "./seeds.json" with { type: "json" }
import { simulate } from "./Simulation.ts"

/** Seeds that run before the event loop of this process gets a turn. */
const batchSize = 25

const runAll = async (from: number, count: number): Promise<Summary> => {
  const summaries: Array<Summary> = []
  for (let done = 0; done < count; done += batchSize) {
    summaries.push(runSeeds(from + done, Math.min(batchSize, count - done)))
    await new Promise((resolve) => setImmediate(resolve))
  }
  return mergeSummaries(summaries)
}

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

  it("1,000 seeds break no guarantee of the protocol, and cover all required events", async () => {
    const { counters, failures } = await runAll(1, 1_000)
    assert.deepStrictEqual(failures.map(describeFailure), [])
    assert.deepStrictEqual(requiredCoverage.filter((name) => counters[name] === undefined), [])
  }, 300_000)
})
