/** The processes that a run has started: they are detached, so an interrupted run must end them by name. */
import type { ChildProcess } from "node:child_process"

const running = new Map<ChildProcess, NodeJS.Signals>()

/** `signal` ends it, and whatever it has started, at once. */
export const endWithSuite = (child: ChildProcess, signal: NodeJS.Signals): void => {
  running.set(child, signal)
  child.once("exit", () => running.delete(child))
}

export const endAll = (): void => {
  for (const [child, signal] of running) {
    // One that stands still hears nothing else.
    child.kill("SIGCONT")
    child.kill(signal)
  }
}
