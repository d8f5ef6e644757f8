/** Prints the last line of a test run: `N passed, N failed, N skipped`. */
import type { Reporter, SerializedError, TestModule, Vitest } from "vitest/node"

interface Counts {
  passed: number
  failed: number
  skipped: number
}

/**
 * Prints the counts when the process exits, because reporters and tear-downs print after the run has ended. A failed test, a
 * file that does not load, a failed hook and an uncaught error each count as failed.
 */
export default class CountsReporter implements Reporter {
  #counts: Counts = { passed: 0, failed: 0, skipped: 0 }

  onInit(vitest: Vitest): void {
    if (vitest.config.watch) return
    process.once("exit", (exitCode) => {
      const { passed, skipped } = this.#counts
      const failed = exitCode === 0 ? this.#counts.failed : Math.max(1, this.#counts.failed)
      process.stdout.write(`${passed} passed, ${failed} failed, ${skipped} skipped\n`)
    })
  }

  onTestRunEnd(modules: ReadonlyArray<TestModule>, uncaught: ReadonlyArray<SerializedError>): void {
    this.#counts = modules.map(countModule).reduce(add, { passed: 0, failed: uncaught.length, skipped: 0 })
  }
}

const add = (one: Counts, other: Counts): Counts => ({
  passed: one.passed + other.passed,
  failed: one.failed + other.failed,
  skipped: one.skipped + other.skipped
})

function countModule(module: TestModule): Counts {
  const counts = { passed: 0, failed: module.errors().length > 0 ? 1 : 0, skipped: 0 }
  for (const suite of module.children.allSuites()) {
    if (suite.errors().length > 0) counts.failed++
  }
  for (const test of module.children.allTests()) {
    const { state } = test.result()
    if (state === "passed") counts.passed++
    else if (state === "failed") counts.failed++
    else counts.skipped++
  }
  return counts
}
