/** Audit entries beyond the retention, and what the loss guard still knows about them. */
import { Revision, Timeline } from "#schema/ids.ts"
import { AuditStore } from "#store/AuditStore.ts"
import { ChangeLog } from "#store/ChangeLog.ts"
import { timelineExpression } from "#store/logPosition.ts"
import { TestDatabase } from "#support/testDatabase.ts"
import { assert, layer } from "@effect/vitest"
import { Duration, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"

const retention = Duration.days(400)

/** Adds one entry for each of these agents. The entries of a running server are written by triggers. */
const record = Effect.fnUntraced(function*(op: "create" | "delete", days: number, revisions: ReadonlyArray<number>) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`insert into audit (at, actor, entity, op, entity_id, revision)
    select now() - ${days} * interval '1 day', 'admin', 'agent', ${op}, 'a' || revision, revision
    from unnest(${revisions}::bigint[]) as t (revision)`
})

const revisionsLeft = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) =>
    Effect.map(
      sql`select revision::int as revision from audit where entity = 'agent' order by id`,
      (rows) => rows.map(({ revision }) => revision)
    )
)

const trim = Effect.flatMap(AuditStore, (store) => store.trim(retention))

/** Created and deleted agents after a revision. */
const turnover = (after: number) =>
  Effect.map(
    Effect.flatMap(ChangeLog, (log) => log.countTurnover(Revision.make(after), Revision.make(1_000))),
    ({ created, deleted }) => [created.agents, deleted.agents] as const
  )

const stores = Layer.mergeAll(AuditStore.layer, ChangeLog.layer).pipe(Layer.provideMerge(TestDatabase))

layer(stores, { excludeTestServices: true })("the retention of the audit", (it) => {
  it.effect("only entries beyond the retention are deleted, and only by this task", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* record("create", 401, [1, 2, 3, 4])
      yield* record("delete", 401, [5])
      yield* record("create", 399, [6, 7])
      assert.strictEqual(yield* trim, 5)
      assert.strictEqual(yield* trim, 0)
      assert.deepStrictEqual(yield* revisionsLeft, [6, 7])
      const early = sql`delete from audit`
      const pretended = sql.withTransaction(
        Effect.andThen(sql`select set_config('control.audit_retention', '400 days', true)`, early)
      )
      const rewriting = [early, pretended, sql`update audit set actor = 'another'`, sql`truncate audit`]
      for (const statement of rewriting) assert.isTrue((yield* Effect.exit(statement))._tag === "Failure")
      assert.deepStrictEqual(yield* revisionsLeft, [6, 7])
    }))

  it.effect("the loss guard counts trimmed entries too, and expects no rows where it cannot count", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* turnover(0), [6, 1])
      const [, deleted] = yield* turnover(2)
      assert.isAbove(deleted, 1_000_000, "entries between revisions 2 and 5 are gone")
      assert.deepStrictEqual(yield* turnover(5), [2, 0])
    }))

  it.effect("after an accepted loss only entries since then count", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      yield* sql`update control_meta set revision = 7`
      const [meta] = yield* sql`select ${sql.literal(timelineExpression)} as timeline from control_meta m`
      assert.isTrue(yield* Effect.flatMap(ChangeLog, (log) => log.acceptLoss(Timeline.make(String(meta?.timeline)))))
      yield* record("create", 500, [8, 9])
      const id = yield* sql`select 1 from audit where revision > 7`
      assert.strictEqual(id.length, 2)
      assert.strictEqual(yield* trim, 2)
      assert.deepStrictEqual(yield* turnover(7), [2, 0])
      assert.deepStrictEqual(yield* revisionsLeft, [6, 7])
    }))
})
