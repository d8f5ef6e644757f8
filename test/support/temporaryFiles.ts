/** Temporary directories and processes of tests. */
import { endWithThisProcess } from "#processes/endWithParent.ts"
import { Effect } from "effect"
import type { ChildProcess } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, realpathSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

/** A new directory, which is removed with its content when the scope ends. */
export const temporaryDirectory = Effect.acquireRelease(
  Effect.sync(() => realpathSync(mkdtempSync(join(tmpdir(), "control-test-")))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

/** Kills the process and waits until it has ended. */
export const killProcess = (child: ChildProcess) =>
  Effect.promise(async () => {
    if (child.exitCode === null && child.signalCode === null) {
      const exited = once(child, "exit")
      child.kill("SIGKILL")
      await exited
    }
  })

/** Kills the process that `start` starts when the scope or this process ends. */
export const scopedProcess = <Child extends ChildProcess>(start: () => Child) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = start()
      endWithThisProcess(child)
      return child
    }),
    killProcess
  )
