/** Migrations complete also if several processes start at the same time. */
import { compareSchema } from "#store/schemaDrift.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit } from "effect"
import { connected, migrate, oldDatabases } from "./migratedDatabases.ts"

describe("the migrations", () => {
  for (const [name, database] of oldDatabases) {
    it.live(`three processes that migrate ${name} at once all start`, () =>
      Effect.gen(function*() {
        const { url } = yield* database
        const ends = yield* Effect.all([migrate(url), migrate(url), migrate(url)], { concurrency: "unbounded" })
        assert.deepStrictEqual(ends.map(Exit.isSuccess), [true, true, true])
        assert.deepStrictEqual(yield* connected(url)(compareSchema), [])
      }), 60_000)
  }
})
