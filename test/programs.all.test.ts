/** The programs that test Control exit with 0 only if they have tested something, and leave no process when they are killed. */
import { scopedProcess } from "#support/temporaryFiles.ts"
import { commandOf, descendants, untilGone, untilTrue } from "#support/processTree.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { basename } from "node:path"

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

const waits = ["node", "--eval", "setInterval(() => {}, 1000)"]

// Only Linux lists the processes below a process.
describe.skipIf(process.platform !== "linux")("a killed program", () => {
  const programs: ReadonlyArray<readonly [args: ReadonlyArray<string>, ...below: ReadonlyArray<string>]> = [
    [["test/simulation/main.ts", "--jobs", "1"], "node", "sh"],
    [["test/simulation/runMutants.ts", "--jobs", "1"], "node", "sh"],
    [["conformance/main.ts", "client", "--jobs", "1", "--", ...waits], "node", "sh"],
    [["bench/main.ts", "--only", "create"], "node", "postgres"],
    [["test/hostile/main.ts"], "node", "postgres"],
    [["test/faults/main.ts", "--only", "F1"], "node", "postgres"],
    [["bin/control.mjs", "demo"], "node", "postgres"],
    [
      ["node_modules/.bin/vitest", "run", "test/server/process.test.ts", "--testNamePattern", "second signal"],
      "node",
      "postgres"
    ]
  ]
  for (const [args, ...below] of programs) {
    it.live(`${args[0]} leaves no process`, () =>
      Effect.gen(function*() {
        const program = yield* scopedProcess(() => spawn(process.execPath, args, { stdio: "ignore" }))
        const commands = () => descendants(program.pid ?? 0).map((pid) => basename(commandOf(pid)[0] ?? ""))
        // Each child gets a shell that ends it. A kill between the two starts would leave the child behind, so these
        // programs start one child at a time.
        const isComplete = (names: ReadonlyArray<string>) =>
          below.every((name) => names.includes(name)) && (!below.includes("sh") ||
            names.filter((name) => name === "sh").length >= names.filter((name) => name === "node").length)
        yield* Effect.promise(() => untilTrue(() => isComplete(commands())))
        const pids = descendants(program.pid ?? 0)
        const exited = once(program, "exit")
        program.kill("SIGKILL")
        yield* Effect.promise(() => exited)
        yield* Effect.promise(() => untilGone(pids))
      }), 60_000)
  }
})
