/** The change log numbers every commit without gaps, and survives damaged rows. */
import * as BucketMap from "#network/BucketMap.ts"
import { Revision } from "#schema/ids.ts"
import { ChangeLog } from "#store/ChangeLog.ts"
import { Secrets } from "#store/secrets/Secrets.ts"
import { TestDatabase } from "#support/testDatabase.ts"
import { assert, layer } from "@effect/vitest"
import { Effect, Fiber, Layer, Random, References } from "effect"
import { SqlClient } from "effect/sql"

const insertAgent = Effect.fnUntraced(function*(id: string, index: number) {
  const sql = yield* SqlClient.SqlClient
  const { cipher } = yield* Secrets
  const key = cipher.encrypt("k", { table: "agents", column: "wireguard_private_key", row: id })
  yield* sql`insert into agents (id, name, virtual_ip, subnet, subnet_index, wireguard_public_key, wireguard_private_key)
    values (${id}, ${id}, ${`10.64.${index}.1`}, ${`10.64.${index}.0/24`}, ${index}, 'pub', ${key})`
})

layer(ChangeLog.layer.pipe(Layer.provideMerge(TestDatabase)), { excludeTestServices: true })(
  "the change log",
  (it) => {
    it.effect("the log gives each committed change of the network one revision, and presence writes none", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const log = yield* ChangeLog
        yield* insertAgent("a1", 0)
        yield* sql`insert into tunnels (id, agent_id, domain, target) values ('t1', 'a1', 'app.example.com', 'localhost:80')`
        yield* sql`update agents set last_seen_at = now(), status = 'online', session_id = 's'`
        yield* sql`update tunnels set reported_status = 'active', reported_at = now()`
        yield* sql`update tunnels set target = target`
        yield* sql`update tunnels set id = 't2'`
        yield* sql`delete from tunnels`
        const page = yield* log.readAfter(Revision.make(0))
        assert.deepStrictEqual(page.changes.map(({ _tag, revision }) => [_tag, revision]), [
          ["AgentPut", 1],
          ["TunnelPut", 2],
          ["TunnelRemoved", 3],
          ["TunnelPut", 4],
          ["TunnelRemoved", 5]
        ])
        assert.strictEqual((yield* log.readSnapshot).state.revision, 5)
      }))

    it.effect("a tunnel row has the revision of its newest change", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        yield* sql`insert into tunnels (id, agent_id, domain, target) values ('t3', 'a1', 't3.example.com', 'localhost:80')`
        const [row] =
          yield* sql`select t.revision = m.revision as newest from tunnels t, control_meta m where t.id = 't3'`
        assert.isTrue(row?.newest)
      }))

    it.effect("TRUNCATE fails, because it would delete rows without logging changes", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const error = yield* Effect.flip(sql`truncate tunnels cascade`)
        assert.include(String(error.reason.cause), "use DELETE")
      }))

    it.effect("a reader that follows revisions sees every commit of eight concurrent writers, without a gap", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const log = yield* ChangeLog
        const from = (yield* log.readSnapshot).state.revision
        // Eight writers pause inside their transactions and roll one in ten back.
        const write = Effect.fnUntraced(function*(writer: number) {
          let committed = 0
          for (let round = 0; round < 40; round++) {
            const fails = (yield* Random.nextIntBetween(0, 10)) === 0
            const pause = yield* Random.nextIntBetween(0, 3)
            const body = Effect.gen(function*() {
              yield* sql`insert into tunnels (agent_id, domain, target) values ('a1', ${`w${writer}-${round}.example.com`}, 'a:1')`
              yield* sql`select pg_sleep(${pause / 1000})`
              if (fails) yield* Effect.fail("rolled back" as const)
            })
            const outcome = yield* Effect.exit(sql.withTransaction(body))
            if (outcome._tag === "Success") committed += 1
          }
          return committed
        })
        const writers = yield* Effect.forEach(Array.from({ length: 8 }, (_, n) => n), (n) => Effect.forkChild(write(n)))
        const seen: Array<number> = []
        let at = from
        let written: number | undefined
        while (written === undefined || seen.length < written) {
          const page = yield* log.readAfter(at)
          seen.push(...page.changes.map(({ revision }) => revision))
          at = page.upTo
          if (written === undefined && writers.every((writer) => writer.pollUnsafe() !== undefined)) {
            written = (yield* Effect.forEach(writers, Fiber.join)).reduce((sum, committed) => sum + committed, 0)
          }
        }
        assert.strictEqual(seen.length, written)
        assert.deepStrictEqual(seen, seen.map((_, index) => from + 1 + index))
        assert.strictEqual((yield* log.readSnapshot).state.tunnels.size, written + 1)
      }))

    it.effect("one transaction with 1,000 rows creates 1,000 revisions", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const log = yield* ChangeLog
        const before = (yield* log.readSnapshot).state.revision
        yield* sql`insert into tunnels (agent_id, domain, target)
        select 'a1', 'bulk' || i || '.example.com', 'localhost:80' from generate_series(1, 1000) i`
        assert.strictEqual((yield* log.readSnapshot).state.revision, before + 1000)
      }))

    it.effect("a damaged row is skipped, and the snapshot and the log return all other rows", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const log = yield* ChangeLog
        yield* insertAgent("a2", 2)
        const { state: { agents, revision } } = yield* log.readSnapshot
        assert.sameMembers(BucketMap.values(agents).map(({ id }) => id), ["a1", "a2"])
        yield* sql`update agents set wireguard_private_key = 'garbage' where id = 'a2'`
        yield* sql`insert into certificates (domain, certificate, private_key, expires_at)
          values ('a.example.com', 'c', 'garbage', 'infinity')`
        yield* insertAgent("a3", 3)
        const { state: snapshot } = yield* log.readSnapshot
        assert.sameMembers(BucketMap.values(snapshot.agents).map(({ id }) => id), ["a1", "a3"])
        assert.strictEqual(snapshot.certificates.size, 0)
        const page = yield* log.readAfter(revision)
        assert.deepStrictEqual(page.changes.map(({ _tag, revision }) => [_tag, revision]), [["AgentPut", revision + 3]])
        assert.strictEqual(page.upTo, revision + 3)
      }).pipe(Effect.provideService(References.MinimumLogLevel, "None")))
  }
)
