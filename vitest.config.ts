/** Test runner configuration: `vitest run` runs `npm test`, `--mode all` adds the long forms (`*.all.test.ts`). */
import { defineConfig } from "vitest/config"

export default defineConfig(({ mode }) => ({
  test: {
    include: ["test/**/*.test.ts"],
    exclude: mode === "all" ? [] : ["test/**/*.all.test.ts"],
    globalSetup: ["test/support/globalSetup.ts"],
    setupFiles: ["test/support/checkSecretLeaks.ts"],
    reporters: ["default", "./test/support/countsReporter.ts"],
    pool: "forks",
    // Most tests wait for sockets, the database or child processes, so that two cores serve more than two files.
    maxWorkers: 3,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    teardownTimeout: 10_000
  }
}))
