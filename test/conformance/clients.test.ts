import { temporaryDirectory } from "#support/process.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { conformance, failuresIn, python } from "./run.ts"

const small = ["--jobs", "8"]
/** A start of it takes a second of the processor, so it is shown only what no other test of `./agent` shows end to end. */
const large = [
  "--jobs",
  "3",
  "--type",
  "agent",
  ...["connects", "restart", "drain", "another-client"].flatMap((name) => ["--only", name])
]

const passes = Effect.fnUntraced(function*(...args: ReadonlyArray<string>) {
  const outcome = yield* conformance("client", ...args)
  assert.strictEqual(outcome.code, 0, failuresIn(outcome))
  assert.match(outcome.printed, /^\d+ passed, 0 failed$/mu)
})

/** What a client could do wrong, as a change of the example, and the transcript that must find it. */
const faults: ReadonlyArray<readonly [what: string, transcript: string, good: string, bad: string]> = [
  ["takes old steps for new ones", "repeated-revisions", "if (revision <= held.revision) return\n", "\n"],
  ["does not see a gap", "gap", "held === null || previous > held.revision", "held === null"],
  ["does not compare with heartbeat_ack", "heartbeat-ack-ahead", "held.revision < data.revision", "false"],
  ["comes back after another session has replaced it", "stops-after-4409", "[4400, 4403, 4409, 4410]", "[]"],
  ["comes back when it likes after drain", "drain", "return drain ?? ", "return "],
  ["forgets where it was", "resumes", "{ resume: {", "{ resumes: {"],
  ["lets everybody read its keys", "restart", "mode: 0o600", "mode: 0o644"],
  ["sends heartbeats too rarely", "heartbeats", "interval * (0.9 +", "interval * (1.9 +"],
  ["waits for a dead connection", "dead-connection", "2.5 * interval", "99 * interval"],
  [
    "goes on with the view of another client",
    "another-client",
    "held.view.own.id !== (data.agentId",
    "held.view.own.id === (data.nobody"
  ]
]

describe("the conformance kit for clients", () => {
  it.live(
    "passes against the example in Node",
    () => passes(...small, "--", process.execPath, "examples/node/agent.mjs"),
    120_000
  )

  // Where no Python is installed there is nothing to run the example with.
  it.live.skipIf(!python)(
    "passes against the example in Python",
    () => passes(...small, "--", python ?? "", "examples/python/agent.py"),
    120_000
  )

  it.live(
    "passes against an agent in thirty lines over ./agent",
    () => passes(...large, "--", process.execPath, "examples/agent-in-30-lines.ts"),
    180_000
  )

  it.live("finds each fault that a client could have", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const good = yield* Effect.promise(() => readFile("examples/node/agent.mjs", "utf8"))
      yield* Effect.forEach(faults, ([what, transcript, from, to], index) =>
        Effect.gen(function*() {
          assert.include(good, from, what)
          const path = join(directory, `${index}.mjs`)
          yield* Effect.promise(() => writeFile(path, good.replace(from, to)))
          const { code, printed } = yield* conformance("client", "--only", transcript, "--", process.execPath, path)
          assert.strictEqual(code, 1, what)
          assert.match(printed, new RegExp(`^FAILED  ${transcript}: .*\n        line \\d+: .*\n        .+`, "mu"))
        }), { concurrency: 5 })
    }), 120_000)
})
