/** A process does not start with the wrong master key or without metadata in the database. */
import { Settings } from "#server/Settings.ts"
import { Secrets } from "#store/secrets/Secrets.ts"
import { TestDatabase } from "#support/testDatabase.ts"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Option, Redacted } from "effect"
import { SqlClient } from "effect/sql"

const startError = Layer.build(Layer.fresh(Secrets.layer)).pipe(Effect.scoped, Effect.flip)

layer(TestDatabase, { excludeTestServices: true })("the secrets of a process", (it) => {
  it.effect("a start with another master key than the database's fails, and the error names both keys", () =>
    Effect.gen(function*() {
      const settings = yield* Settings
      const other = Redacted.make(Buffer.alloc(32, 1).toString("base64"))
      const { message } = yield* startError.pipe(
        Effect.provideService(Settings, { ...settings, masterKey: Option.some(other) })
      )
      const { cipher } = yield* Secrets
      assert.include(message, `encrypted under master key ${cipher.keyId}, but this process has master key `)
      assert.notInclude(message, Redacted.value(other))
    }))

  it.effect("a start on a database without a row in control_meta fails with an error about that row", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`delete from control_meta`
      assert.include((yield* startError).message, "the table control_meta has no row")
    }))
})
