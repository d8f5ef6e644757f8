/** The counter of revisions in transactions with many changes. */
import { TestDatabase } from "#support/testDatabase.ts"
import { assert, layer } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { SqlClient } from "effect/sql"

const Numbers = Schema.Tuple([Schema.Struct({ n: Schema.Number })])

const read = (statement: string) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    const [{ n }] = Schema.decodeUnknownSync(Numbers)(yield* sql.unsafe(`select (${statement})::int as n`))
    return n
  })

const revision = read("select revision from control_meta")
const logged = (after: number) => read(`select count(*) from changes where revision > ${after}`)
const newest = read("select max(revision) from changes")
const scans = read(
  "select seq_scan + coalesce(idx_scan, 0) from pg_stat_xact_user_tables where relid = 'control_meta'::regclass"
)

const write = (id: string, count = 1) =>
  Effect.flatMap(SqlClient.SqlClient, (sql) =>
    Effect.andThen(
      sql.unsafe(`insert into certificates (domain, certificate, private_key, expires_at)
        select '${id}' || i || '.example.com', 'c', 'k', now() from generate_series(1, ${count}) i`),
      sql.unsafe("set constraints all immediate")
    ))

layer(TestDatabase, { timeout: 30_000, excludeTestServices: true })("the revision counter", (it) => {
  it.effect("a transaction searches the row of the counter once, however many rows it changes", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const before = yield* revision
      yield* sql.withTransaction(Effect.gen(function*() {
        yield* write("first")
        const searched = yield* scans
        yield* write("many", 300)
        assert.strictEqual(yield* scans, searched)
      }))
      assert.deepStrictEqual([yield* revision, yield* newest, yield* logged(before)], [before + 301, before + 301, 301])
    }))

  it.effect("revisions stay without gaps after a rollback to a savepoint, and after another update of the row", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const before = yield* revision
      yield* sql.withTransaction(Effect.gen(function*() {
        yield* write("a")
        yield* sql.unsafe("savepoint s")
        yield* write("b", 10)
        yield* sql.unsafe("rollback to savepoint s")
        yield* write("c", 2)
        yield* sql.unsafe("update control_meta set rotating_from = rotating_from")
        yield* write("d", 2)
      }))
      yield* write("e")
      assert.deepStrictEqual([yield* revision, yield* newest, yield* logged(before)], [before + 6, before + 6, 6])
    }))
})
