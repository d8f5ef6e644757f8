import { Settings } from "#server/Settings.ts"
import { Secrets } from "#store/secrets/Secrets.ts"
import { TestDatabase } from "#support/database.ts"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Option, Redacted } from "effect"
import { SqlClient } from "effect/sql"

const refusal = Layer.build(Layer.fresh(Secrets.layer)).pipe(Effect.scoped, Effect.flip)

layer(TestDatabase, { excludeTestServices: true })("the secrets", (it) => {
  it.effect("a database that was written under another master key is refused, and both keys are named", () =>
    Effect.gen(function*() {
      const settings = yield* Settings
      const other = Redacted.make(Buffer.alloc(32, 1).toString("base64"))
      const { message } = yield* refusal.pipe(
        Effect.provideService(Settings, { ...settings, masterKey: Option.some(other) })
      )
      const { cipher } = yield* Secrets
      assert.include(message, `encrypted under master key ${cipher.keyId}, but this process has master key `)
      assert.notInclude(message, Redacted.value(other))
    }))

  it.effect("a database that has lost its one row of metadata is refused as such, not as written under another key", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`delete from control_meta`
      assert.include((yield* refusal).message, "the table control_meta has no row")
    }))
})
