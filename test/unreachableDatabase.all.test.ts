/** A server that waits for its database in vain, which takes 20 s. */
import { secretScanner } from "./support/SecretScanner.ts"
import { spawnServer } from "./support/serverProcess.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { randomBytes } from "node:crypto"

describe("the output of a process without a database", () => {
  it.live(
    "a server whose database does not answer exits with 1, and prints the reason without the password",
    () =>
      Effect.gen(function*() {
        const password = randomBytes(18).toString("hex")
        secretScanner.addSecret("database password", password)
        const { exited, output } = yield* spawnServer({
          CONTROL_MASTER_KEY: randomBytes(32).toString("base64"),
          CONTROL_LOG_LEVEL: "trace",
          DATABASE_URL: `postgres://control:${password}@127.0.0.1:1/control`
        })
        assert.strictEqual(yield* Effect.promise(() => exited), 1)
        assert.include(output(), "ECONNREFUSED")
      }),
    90_000
  )
})
