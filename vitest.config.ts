/** Test runner configuration: `vitest run` runs `npm test`, `--mode all` adds the long forms (`*.all.test.ts`). */
import { defineConfig } from "vitest/config"

/**
 * Files that judge times of real processes: how long a killed node's clients stay online, how much a stall is forgiven.
 * They run one at a time, after the others.
 */
const alone: ReadonlyArray<string> = []

export default defineConfig(({ mode }) => {
  const project = {
    setupFiles: ["test/support/checkSecretLeaks.ts"],
    testTimeout: 30_000,
    hookTimeout: 30_000
  }
  const long = mode === "all" ? [] : ["test/**/*.all.test.ts"]
  return {
    test: {
      globalSetup: ["test/support/globalSetup.ts"],
      reporters: ["default", "./test/support/countsReporter.ts"],
      pool: "forks",
      teardownTimeout: 10_000,
      // Most tests wait for sockets, the database or child processes, so that two cores serve more than two files.
      maxWorkers: 3,
      projects: [{
        test: {
          ...project,
          name: "together",
          include: ["test/**/*.test.ts"],
          exclude: [...alone, ...long],
          sequence: { groupOrder: 0 }
        }
      }, {
        test: {
          ...project,
          name: "alone",
          include: [...alone],
          exclude: long,
          fileParallelism: false,
          sequence: { groupOrder: 1 }
        }
      }]
    }
  }
})
