/** A short selection of the fault matrix, with a small fleet: `npm run faults` runs all of it. */
import { assert, describe, it } from "@effect/vitest"
import { afterAll } from "vitest"
import { allFaults } from "./allFaults.ts"
import { ClusterPool, runFaultOnce } from "./runFaults.ts"

const options = { clients: 16, seed: 1, repeat: 1 }

const selection = [
  ["F1", "a restart of the database closes nobody and loses nothing"],
  ["F2", "after a crash of the database everything that was acknowledged is there"],
  ["F25", "floods of messages, pings and connections hold up nobody"],
  ["F17", "a node that stood still evicts nobody"],
  ["F18", "after kill -9 of a node its clients are at another one, and shown online"],
  ["F28", "of clones that fight over one key there is one at a time, and nobody else notices"]
] as const

describe("under faults", () => {
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
