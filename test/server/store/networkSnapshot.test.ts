/** Reading the whole network: pages of one snapshot during any writes, and limits for one page. */
import * as BucketMap from "#network/BucketMap.ts"
import { apply, type NetworkState } from "#network/NetworkState.ts"
import type { Revision } from "#schema/ids.ts"
import { ChangeLog } from "#store/ChangeLog.ts"
import { makeSnapshotReader, type ReadingProgress } from "#store/networkSnapshot.ts"
import { Secrets } from "#store/secrets/Secrets.ts"
import { newDatabase, TestDatabase } from "#support/testDatabase.ts"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, Fiber, HashMap, Layer, Redacted, Schedule, Schema } from "effect"
import { SqlClient } from "effect/sql"

/** More than two pages of agents. */
const agentCount = 2_500

const insertAgents = (sql: SqlClient.SqlClient) =>
  sql.withTransaction(Effect.andThen(
    // Seeds rows without revisions, as they are in a log that was compacted.
    sql`set local session_replication_role = replica`,
    sql`insert into agents (id, name, virtual_ip, subnet, subnet_index, wireguard_public_key)
      select 'a' || i, 'agent ' || i, '10.' || i / 256 || '.' || i % 256 || '.1', '10.' || i / 256 || '.' || i % 256 || '.0/24',
        i, 'key ' || i from generate_series(0, ${agentCount - 1}) i`
  ))

/** A client that runs `before` ahead of each page. It records the rows of each statement. */
const observed = (
  sql: SqlClient.SqlClient,
  before: Effect.Effect<unknown>,
  record: (rows: number) => void = () => {}
) =>
  new Proxy(sql, {
    get: (target, name) =>
      name !== "unsafe" ? Reflect.get(target, name) : (statement: string, parameters?: ReadonlyArray<unknown>) => {
        const rows = Effect.tap(target.unsafe(statement, parameters), ({ length }) => Effect.sync(() => record(length)))
        return statement.startsWith("fetch") ? Effect.andThen(before, rows) : rows
      }
  })

const rowsOf = (state: NetworkState) => ({
  agents: BucketMap.values(state.agents).map(({ id, name }) => `${id} ${name}`).toSorted(),
  tunnels: BucketMap.values(state.tunnels).map(({ agentId, id, target }) => `${id} ${agentId} ${target}`).toSorted(),
  tunnelsByAgent: HashMap.toEntries(state.tunnelsByAgent).map(([id, tunnels]) => `${id} ${HashMap.size(tunnels)}`)
    .toSorted(),
  revision: state.revision
})

/** Applies the change log up to this revision. */
const applyLog = Effect.fnUntraced(function*(from: NetworkState, upTo: Revision) {
  const log = yield* ChangeLog
  let state = from
  let position = from.revision
  while (position < upTo) {
    const page = yield* log.readAfter(position)
    state = page.changes.filter(({ revision }) => revision <= upTo).reduce(apply, state)
    position = page.upTo
  }
  return state
})

/** One writing transaction. It changes an agent and a tunnel together, so that a torn snapshot shows. */
const Write = Schema.Struct({
  kind: Schema.Literals(["rename", "create", "remove", "renumber"]),
  row: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: agentCount - 1 }))
})
const Writes = Schema.Array(Schema.Array(Write).check(Schema.isMaxLength(3))).check(Schema.isBetweenLength(3, 8))

let written = 0

const write = Effect.fnUntraced(function*({ kind, row }: typeof Write.Type) {
  const sql = yield* SqlClient.SqlClient
  const agent = `a${row}`
  const number = written += 1
  yield* sql.withTransaction(Effect.gen(function*() {
    yield* sql`update agents set name = ${`renamed ${number}`} where id = ${agent}`
    if (kind === "rename") yield* sql`update tunnels set target = ${`t${number}:1`} where agent_id = ${agent}`
    if (kind === "remove") yield* sql`delete from tunnels where agent_id = ${agent}`
    if (kind === "create") {
      yield* sql`insert into tunnels (id, agent_id, domain, target)
        values (${`t${number}`}, ${agent}, ${`t${number}.example.com`}, 'a:1')`
    }
    // A row with a new id is at the end of the table, where a reading that is not one snapshot finds it a second time.
    if (kind === "renumber") yield* sql`update tunnels set id = ${`r${number}-`} || id where agent_id = ${agent}`
  }))
})

layer(ChangeLog.layer.pipe(Layer.provideMerge(TestDatabase)), { excludeTestServices: true })(
  "a reading of the whole network",
  (it) => {
    it.effect("the network has more agents than a page", () => Effect.flatMap(SqlClient.SqlClient, insertAgents))

    it.effect.prop(
      "pages are of one snapshot for any writes between them, and the change log continues it",
      { early: Schema.Array(Write).check(Schema.isMaxLength(4)), between: Writes },
      ({ between, early }) =>
        Effect.gen(function*() {
          const sql = yield* SqlClient.SqlClient
          const log = yield* ChangeLog
          const { cipher } = yield* Secrets
          const { state: before } = yield* log.readSnapshot
          yield* Effect.forEach(early, write)
          const waiting = [...between]
          const context = yield* Effect.context<SqlClient.SqlClient>()
          const { readSnapshot } = makeSnapshotReader(
            observed(
              sql,
              Effect.orDie(Effect.suspend(() => {
                const writes = Effect.forEach(waiting.shift() ?? [], write)
                // Without the reader's transaction, so that they run on connections of their own.
                return Effect.promise(() => Effect.runPromise(Effect.provide(writes, context)))
              }))
            ),
            cipher
          )
          const { state } = yield* readSnapshot
          const newest = yield* log.readSnapshot
          assert.deepStrictEqual(rowsOf(yield* applyLog(before, state.revision)), rowsOf(state))
          assert.deepStrictEqual(rowsOf(yield* applyLog(state, newest.state.revision)), rowsOf(newest.state))
        }),
      { arbitrary: { runs: 12 } }
    )

    it.effect("no statement returns more rows than a page, and the progress ends at the number of rows", () =>
      Effect.gen(function*() {
        const { cipher } = yield* Secrets
        const sizes: Array<number> = []
        const progress: Array<ReadingProgress | undefined> = []
        const reader = makeSnapshotReader(
          observed(
            yield* SqlClient.SqlClient,
            Effect.suspend(() => Effect.map(reader.reading, (now) => progress.push(now))),
            (rows) => sizes.push(rows)
          ),
          cipher
        )
        const { state } = yield* reader.readSnapshot
        assert.strictEqual(state.agents.size, agentCount)
        assert.isAtMost(Math.max(...sizes), 1_000)
        const total = agentCount + state.tunnels.size
        assert.deepStrictEqual(progress[0], { rows: 0, total })
        assert.isTrue(progress.every((one, index) => one !== undefined && one.rows >= (progress[index - 1]?.rows ?? 0)))
        assert.deepInclude(progress, { rows: total, total })
        assert.isUndefined(yield* reader.reading)
      }))
  }
)

/** One connection, so that a transaction that was left open would block the next reading. */
const limited = (url: string, limits: Record<string, string>) =>
  PgClient.layer({ url: Redacted.make(url), maxConnections: 1, applicationName: "reader", startupParameters: limits })

const withNetwork = Effect.gen(function*() {
  const { url } = yield* newDatabase
  const admin = yield* Layer.build(PgClient.layer({ url: Redacted.make(url), maxConnections: 2 })).pipe(
    Effect.flatMap((context) => Effect.provide(SqlClient.SqlClient, context))
  )
  yield* insertAgents(admin)
  return { url, admin }
})

const state = (sql: SqlClient.SqlClient) =>
  Effect.map(
    sql<
      { pid: number; state: string; since: number }
    >`select pid, state, extract(epoch from now() - state_change)::float8 as since
      from pg_stat_activity where datname = current_database() and application_name = 'reader'`,
    ([row]) => row
  )

const until = <E>(condition: Effect.Effect<boolean, E>) =>
  Effect.repeat(condition, { until: (isMet) => isMet, schedule: Schedule.spaced("10 millis") })

const noKeys = { decrypt: () => assert.fail("no row has a secret") } as never

describe("the limits of a reading", () => {
  it.live("a whole reading may take longer than the limits of one statement and of an idle transaction", () =>
    Effect.gen(function*() {
      const { admin, url } = yield* withNetwork
      // Each page takes 0.4 s, and the whole 1.2 s.
      yield* admin.unsafe(
        `create or replace function control_row_image(full_row jsonb) returns jsonb language plpgsql as $$
        begin
          if full_row ->> 'id' like 'a%500' then perform pg_sleep(0.4); end if;
          return full_row;
        end $$`
      )
      const limits = { statement_timeout: "1000", idle_in_transaction_session_timeout: "100" }
      const context = yield* Layer.build(limited(url, limits))
      const isIdle = Effect.map(state(admin), (row) => row?.state === "idle in transaction" && row.since > 0.2)
      let pages = 0
      const sql = observed(
        yield* Effect.provide(SqlClient.SqlClient, context),
        // The third page follows after a pause that is longer than the limit of the session.
        Effect.suspend(() => (pages += 1) === 3 ? Effect.orDie(until(isIdle)) : Effect.void)
      )
      const snapshot = yield* makeSnapshotReader(sql, noKeys, 1_280).readSnapshot
      assert.strictEqual(snapshot.state.agents.size, agentCount)
    }))

  it.live("an interrupted or broken reading leaves no transaction and no progress, and the next one succeeds", () =>
    Effect.gen(function*() {
      const { admin, url } = yield* withNetwork
      const sql = yield* Effect.provide(SqlClient.SqlClient, yield* Layer.build(limited(url, {})))
      let fetched = 0
      let onSecond: Effect.Effect<unknown> = Effect.never
      const reader = makeSnapshotReader(
        observed(sql, Effect.suspend(() => (fetched += 1) === 2 ? onSecond : Effect.void)),
        noKeys
      )
      const interrupted = yield* Effect.forkChild(reader.readSnapshot)
      yield* until(Effect.sync(() => fetched === 2))
      yield* Fiber.interrupt(interrupted)
      yield* until(Effect.map(state(admin), (row) => row?.state === "idle"))
      assert.isUndefined(yield* reader.reading)

      fetched = 0
      onSecond = Effect.orDie(
        Effect.andThen(state(admin), (row) => admin`select pg_terminate_backend(${row?.pid ?? 0})`)
      )
      const error = yield* Effect.flip(reader.readSnapshot)
      assert.strictEqual(error._tag, "StoreUnavailable")
      assert.isUndefined(yield* reader.reading)

      const { state: read } = yield* reader.readSnapshot
      assert.strictEqual(read.agents.size, agentCount)
    }))
})
