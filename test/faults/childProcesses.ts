/** Child processes of the suite. They run detached, so that an interrupted suite must stop each one. */
import { endWithThisProcess } from "#processes/endWithParent.ts"
import type { ChildProcess } from "node:child_process"

const running = new Map<ChildProcess, NodeJS.Signals>()

/** Stops the child with `signal` when the suite is interrupted or killed. The signal must also stop the child's own processes. */
export const endWithSuite = (child: ChildProcess, signal: NodeJS.Signals): void => {
  running.set(child, signal)
  endWithThisProcess(child, signal)
  child.once("exit", () => running.delete(child))
}

export const endAll = (): void => {
  for (const [child, signal] of running) {
    // A process stopped by SIGSTOP handles no other signal.
    child.kill("SIGCONT")
    child.kill(signal)
  }
}
