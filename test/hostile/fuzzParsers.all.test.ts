/** A longer fuzz of the parsers; `npm run fuzz` takes any number of inputs. */
import { assert, it } from "@effect/vitest"
import { fuzzParsers } from "./fuzzParsers.ts"

it("300,000 mutated inputs make no parser throw, contradict itself or grow", async () => {
  const findings = await fuzzParsers({ count: 300_000, seed: 3, print: () => {} })
  assert.deepStrictEqual(findings.flatMap(({ faults }) => faults), [])
  for (const { name, results } of findings) {
    for (const [kind, count] of Object.entries(results)) assert.isAbove(count, 100, `${name} ${kind}`)
    assert.isAtLeast(Object.keys(results).length, 3, name)
  }
}, 300_000)
