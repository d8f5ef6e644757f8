/** Tests of six faults with a small fleet. `npm run faults` runs all forty. */
import { assert, describe, it } from "@effect/vitest"
import { afterAll } from "vitest"
import { allFaults } from "./allFaults.ts"
import { ClusterPool, runFaultOnce } from "./runFaults.ts"

const options = { clients: 16, seed: 1, repeat: 1 }

const selection = [
  ["F1", "a restart of PostgreSQL closes no session and loses no write"],
  ["F2", "a crash of PostgreSQL loses no acknowledged write"],
  ["F25", "floods of messages, pings and connections delay no other client"],
  ["F17", "a node that was paused evicts no client"],
  ["F18", "clients of a killed node connect to another node and are shown online"],
  ["F28", "clones with one key have one session at a time and affect no other client"]
] as const

describe("faults", () => {
  const clusters = new ClusterPool(options)
  afterAll(() => clusters.close())

  for (const [id, guarantee] of selection) {
    it(`${guarantee} (${id})`, { timeout: 120_000 }, async () => {
      const fault = allFaults.find((each) => each.id === id)
      assert.isDefined(fault)
      const run = await runFaultOnce(fault, options, options.seed, clusters)
      assert.deepStrictEqual(run.failures, [], run.observations.join("; "))
    })
  }
})
