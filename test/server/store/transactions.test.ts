/** Transactions: repeated after conflicts, and writes that wait in a bounded queue. */
import { auditedTransaction, StoreUnavailable, transaction } from "#store/sql.ts"
import { maxRunningWrites, maxWaitingWrites } from "#store/writeQueue.ts"
import { TestDatabase } from "#support/testDatabase.ts"
import { assert, layer } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { SqlClient } from "effect/sql"

layer(TestDatabase, { timeout: 30_000, excludeTestServices: true })("transactions", (it) => {
  it.effect("a transaction is repeated after a deadlock, and both transactions succeed", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      let attempts = 0
      const locked = [yield* Deferred.make<void>(), yield* Deferred.make<void>()] as const
      const lockBoth = (first: 0 | 1) =>
        transaction(sql)(Effect.gen(function*() {
          attempts++
          yield* sql`select pg_advisory_xact_lock(77, ${first}::int)`
          yield* Deferred.succeed(locked[first], undefined)
          yield* Deferred.await(locked[first === 0 ? 1 : 0])
          yield* sql`select pg_advisory_xact_lock(77, ${1 - first}::int)`
        }))
      yield* Effect.all([lockBoth(0), lockBoth(1)], { concurrency: 2 })
      assert.strictEqual(attempts, 3)
    }))

  it.effect("a transaction that fails again and again with SQLSTATE 40001 becomes StoreUnavailable", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      let attempts = 0
      const error = yield* Effect.flip(
        transaction(sql)(Effect.suspend(() => {
          attempts++
          return sql.unsafe("do $$ begin raise exception 'conflict' using errcode = '40001'; end $$")
        }))
      )
      assert.instanceOf(error, StoreUnavailable)
      assert.strictEqual(attempts, 6)
    }))

  it.effect("writes wait for each other without limit of the database, and a full queue fails at once", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const gate = yield* Deferred.make<void>()
      let rejected = 0
      const count = maxRunningWrites + maxWaitingWrites + 3
      const allRejected = yield* Deferred.make<void>()
      const write = auditedTransaction(sql)(Deferred.await(gate)).pipe(
        Effect.as("written"),
        Effect.catchTag(
          "StoreUnavailable",
          ({ reason }) => Effect.as(++rejected === 3 ? Deferred.succeed(allRejected, undefined) : Effect.void, reason)
        )
      )
      const running = yield* Effect.forkChild(
        Effect.all(Array.from({ length: count }, () => write), { concurrency: "unbounded" })
      )
      yield* Deferred.await(allRejected)
      yield* Deferred.succeed(gate, undefined)
      const results = yield* Fiber.join(running)
      assert.strictEqual(results.filter((result) => result === "written").length, count - 3)
      assert.strictEqual(results.filter((result) => result.includes("1024 writes are waiting")).length, 3)
    }))
})
