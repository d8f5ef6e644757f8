/** Text of clients and operators that looks like ciphertext counts as text in a backup. */
import { assert, describe, it } from "@effect/vitest"
import { PgClient } from "@effect/sql-pg"
import { Effect, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { readRows, restoreBackup, saveBackup, startNetwork } from "./backups.ts"

const likeCiphertext = "v1.aaaaaaaaaaaaaaaa.x"

describe("a backup", () => {
  it.live("text that looks like ciphertext in any column that is not encrypted does not prevent a restore", () =>
    Effect.gen(function*() {
      const { backup, file, server, url } = yield* startNetwork
      yield* Effect.promise(() => server.operator.post("/api/agents", { name: likeCiphertext }))
      yield* Effect.promise(() => server.operator.post("/api/gateways", { name: likeCiphertext }))
      yield* Effect.promise(() => server.operator.post("/api/tokens", { name: likeCiphertext, role: "read" }))
      yield* Effect.flatMap(SqlClient.SqlClient, (sql) => sql`update tunnels set reported_status = ${likeCiphertext}`)
        .pipe(Effect.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 1 })))
      const before = yield* readRows(url)
      yield* saveBackup(file, backup)
      yield* restoreBackup(url, file)
      assert.deepStrictEqual(yield* readRows(url), before)
    }))
})
