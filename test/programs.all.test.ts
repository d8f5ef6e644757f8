/** The programs that test Control exit with 0 only if they have tested something. */
import { assert, describe, it } from "@effect/vitest"
import { spawnSync } from "node:child_process"

const run = (...args: ReadonlyArray<string>) => spawnSync(process.execPath, args, { encoding: "utf8" })

describe("a program that tests Control", () => {
  it.each([
    ["test/simulation/main.ts", "--seeds", "many"],
    ["test/simulation/main.ts", "--seeds", "0"],
    ["test/simulation/main.ts", "--jobs", "0"],
    ["test/simulation/main.ts", "--seed", ""],
    ["test/simulation/runMutants.ts", "--seeds", "many"],
    ["test/simulation/runMutants.ts", "--only", "no such mutant"],
    ["test/faults/main.ts", "--repeat", "0"],
    ["test/faults/soak.ts", "--minutes", "x"],
    ["test/hostile/main.ts", "--frames", "1e9e"],
    ["conformance/main.ts", "client", "--jobs", "x", "--", "true"]
  ])("%s rejects %s %s", (...args) => {
    const { status, stderr } = run(...args)
    assert.strictEqual(status, 2, stderr)
    assert.match(stderr, /^--[a-z]+ .*: (?:use a|no mutant)/u)
  })

  it("the mutation test finds a mutant by a broken guarantee", () => {
    const { status, stdout } = run("test/simulation/runMutants.ts", "--only", "sessions are never touched")
    assert.match(stdout, /^found .* at seed \d+$/mu)
    assert.strictEqual(status, 0)
  }, 120_000)
})
