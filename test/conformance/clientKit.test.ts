/** Conformance kit for clients: it passes against the examples and detects faulty clients. */
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { conformance, failuresIn, python } from "./runKit.ts"

const allTranscripts = ["--jobs", "8"]
/** Transcripts that no other test of the client library covers end to end. Few, because each start takes 1 s of CPU time. */
const libraryTranscripts = [
  "--jobs",
  "3",
  "--type",
  "agent",
  ...["connects", "restart", "drain", "another-client"].flatMap((name) => ["--only", name])
]

/** Other test files run at the same time, so a correct client may be late. It may never be early. */
const busyMachine = ["--time-factor", "5"]

const passes = Effect.fnUntraced(function*(...args: ReadonlyArray<string>) {
  const outcome = yield* conformance("client", ...busyMachine, ...args)
  assert.strictEqual(outcome.code, 0, failuresIn(outcome))
  assert.match(outcome.printed, /^\d+ passed, 0 failed$/mu)
})

/** Faults of a client, each as a change of the example, with the transcript that must detect the fault. */
const faults: ReadonlyArray<readonly [what: string, transcript: string, good: string, bad: string]> = [
  ["applies old deltas again", "repeated-revisions", "if (revision <= current.revision) return\n", "\n"],
  ["does not detect a gap", "gap", "current === null || previous > current.revision", "current === null"],
  ["ignores the revision of heartbeat_ack", "heartbeat-ack-ahead", "current.revision < data.revision", "false"],
  ["reconnects after another session has replaced it", "stops-after-4409", "[4400, 4401, 4403, 4409, 4410]", "[]"],
  ["ignores the delay of drain", "drain", "return drainMillis ?? ", "return "],
  ["forgets its position", "resumes", "{ resume: {", "{ resumes: {"],
  ["writes its keys into a file that every user can read", "restart", "mode: 0o600", "mode: 0o644"],
  ["sends heartbeats too rarely", "heartbeats", "heartbeatMillis * (0.9 +", "heartbeatMillis * (1.9 +"],
  ["does not detect a dead connection", "dead-connection", "2.5 * heartbeatMillis)", "99 * heartbeatMillis)"],
  [
    "continues with the view of another client",
    "another-client",
    "current.view.own.id !== (data.agentId",
    "current.view.own.id === (data.missingId"
  ]
]

describe("the conformance kit for clients", () => {
  it.live(
    "the kit passes against the example in Node",
    () => passes(...allTranscripts, "--", process.execPath, "examples/node/agent.mjs"),
    120_000
  )

  // The example needs an installed Python.
  it.live.skipIf(!python)(
    "the kit passes against the example in Python",
    () => passes(...allTranscripts, "--", python ?? "", "examples/python/agent.py"),
    120_000
  )

  it.live(
    "the kit passes against an agent in 30 lines that uses the client library",
    () => passes(...libraryTranscripts, "--", process.execPath, "examples/agent-in-30-lines.ts"),
    180_000
  )

  it.live("the kit detects each fault of a client", () =>
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
