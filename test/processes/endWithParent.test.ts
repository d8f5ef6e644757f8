/** Child processes end with their parent, also when SIGKILL ends the parent. */
import { scopedProcess } from "#support/temporaryFiles.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { once } from "node:events"

/** Starts `sleep`, which inherits stdout, and prints its process id. */
const script = `
  import { endWithThisProcess } from "#processes/endWithParent.ts"
  import { spawn } from "node:child_process"
  import { once } from "node:events"
  const child = spawn("sleep", ["1000"], { stdio: ["ignore", "inherit", "inherit"], detached: true })
  endWithThisProcess(child)
  console.log(child.pid)
  process.stdin.resume()
  await once(child, "exit")
`

const startParent = Effect.gen(function*() {
  const parent = yield* scopedProcess(() =>
    spawn(process.execPath, ["--input-type=module-typescript", "--eval", script], {
      stdio: ["pipe", "pipe", "inherit"]
    })
  )
  const [printed] = yield* Effect.promise(() => once(parent.stdout, "data"))
  return { parent, child: Number(printed) }
})

describe("a child process", () => {
  for (const state of ["running", "stopped"]) {
    it.live(`a ${state} child process ends when its parent is killed`, () =>
      Effect.gen(function*() {
        const { child, parent } = yield* startParent
        if (state === "stopped") process.kill(child, "SIGSTOP")
        // Both processes hold the pipe, so it ends with the last of them.
        const ended = once(parent.stdout.resume(), "close")
        parent.kill("SIGKILL")
        yield* Effect.promise(() => ended)
      }))
  }

  it.live("the parent of an ended child process ends by itself, because the watchdog holds it no longer", () =>
    Effect.gen(function*() {
      const { child, parent } = yield* startParent
      const exited = once(parent, "exit")
      parent.stdin.end()
      process.kill(child, "SIGKILL")
      assert.deepStrictEqual(yield* Effect.promise(() => exited), [0, null])
    }))
})
