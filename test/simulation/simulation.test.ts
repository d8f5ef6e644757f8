/** The real Control over a simulated database and simulated sockets, with clients and operators that do everything they can. */
import { assert, describe, it } from "@effect/vitest"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { requiredCoverage } from "./requiredCoverage.ts"
import { mutants } from "./mutations.ts"
import { describeFailure, failuresOf, mergeSummaries, runSeeds, type Summary } from "./runSeeds.ts"
import seeds from "./seeds.json" with { type: "json" }
import { simulate } from "./Simulation.ts"

/** How many seeds are run before others in this process get their turn. */
const atOnce = 25

const runAll = async (from: number, count: number): Promise<Summary> => {
  const summaries: Array<Summary> = []
  for (let done = 0; done < count; done += atOnce) {
    summaries.push(runSeeds(from + done, Math.min(atOnce, count - done)))
    await new Promise((resolve) => setImmediate(resolve))
  }
  return mergeSummaries(summaries)
}

describe("the simulation", () => {
  it("equal seeds go the same way, others do not", () => {
    for (const seed of [7, 8, 9, 10, 11]) {
      const [one, same] = [simulate(seed, { traced: true }), simulate(seed, { traced: true })]
      assert.deepStrictEqual(one.lines, same.lines)
      assert.strictEqual(one.hash, same.hash)
      assert.notStrictEqual(one.hash, simulate(seed + 1).hash)
    }
  })

  it("every deliberate fault of the mutation list fits the code", () => {
    const root = join(import.meta.dirname, "..", "..")
    const misfits = mutants.flatMap(({ edits, name }) =>
      edits.filter(({ file, find }) => readFileSync(join(root, file), "utf8").split(find).length !== 2)
        .map(({ file, find }) => `${name}: ${file}: ${find}`)
    )
    assert.deepStrictEqual(misfits, [])
  })

  it("what was wrong once is right now", () => {
    assert.deepStrictEqual(seeds.flatMap(({ seed }) => failuresOf(simulate(seed))).map(describeFailure), [])
  })

  it("whatever happens in a thousand seeds, no promise of the protocol is broken, and much happens", async () => {
    const { counters, failures } = await runAll(1, 1_000)
    assert.deepStrictEqual(failures.map(describeFailure), [])
    assert.deepStrictEqual(requiredCoverage.filter((name) => counters[name] === undefined), [])
  }, 300_000)
})
