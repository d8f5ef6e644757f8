/** The end of the leases of nodes that drain, while a touch of the last one still runs. */
import { AgentId, KeyId, Revision, SessionId } from "#schema/ids.ts"
import { NodeStore } from "#store/NodeStore.ts"
import { PresenceStore } from "#store/PresenceStore.ts"
import { ReservedPool } from "#store/ReservedPool.ts"
import { TestDatabase } from "#support/testDatabase.ts"
import { assert, layer } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber, Layer } from "effect"

const stores = Layer.mergeAll(NodeStore.layer, PresenceStore.layer).pipe(Layer.provideMerge(TestDatabase))
const agent = { type: "agent" as const, id: AgentId.make("a"), session: SessionId.make("s") }
const touch = { ...agent, ageMillis: 0, sent: Revision.make(0), applied: undefined, nack: undefined }
const drainWindow = Duration.hours(1)

/** Whether another connection waits for a lock of this transaction. */
const isAwaited = Effect.flatMap(ReservedPool, (sql) =>
  Effect.map(
    sql`select 1 from pg_locks where not granted and pg_backend_pid() = any(pg_blocking_pids(pid))`,
    (rows) => rows.length > 0
  ))

const statusOfAgent = Effect.flatMap(
  ReservedPool,
  (sql) => Effect.map(sql`select status from agents where id = 'a'`, ([row]) => row?.["status"])
)

/** Two live nodes. The agent is online on `draining`, which has handed it over to `other`; then `other` stops. */
const stopOther = Effect.gen(function*() {
  const nodes = yield* NodeStore
  const presence = yield* PresenceStore
  const sql = yield* ReservedPool
  yield* sql`delete from nodes`
  yield* sql`delete from agents`
  yield* sql`insert into agents (id, name, virtual_ip, subnet, subnet_index, wireguard_public_key)
    values ('a', 'a', '10.64.0.1', '10.64.0.0/24', 0, ${"A".repeat(43)} || '=')`
  for (const id of ["draining", "other"]) {
    yield* nodes.renew({ id, name: id, version: "0.0.0", clients: 0, revision: 0 }, drainWindow)
  }
  const claim = {
    ...agent,
    address: "192.0.2.1",
    level: "control.v1" as const,
    publicIp: null,
    keyId: KeyId.make("k"),
    version: undefined
  }
  yield* presence.claim("draining", [claim])
  assert.isTrue(yield* nodes.startDrain("draining", drainWindow))
  assert.isFalse(yield* nodes.startDrain("other", drainWindow), "no node is left to take its clients")
  assert.strictEqual(yield* statusOfAgent, "online")
  yield* nodes.release("other")
  assert.strictEqual(yield* statusOfAgent, "offline")
})

layer(stores, { excludeTestServices: true })("the release of the last draining node", (it) => {
  it.effect("a touch that commits after the release has begun leaves no client online", () =>
    Effect.gen(function*() {
      yield* stopOther
      const nodes = yield* NodeStore
      const presence = yield* PresenceStore
      const sql = yield* ReservedPool
      const touched = yield* Deferred.make<void>()
      const releasing = yield* Effect.forkChild(Effect.andThen(Deferred.await(touched), nodes.release("draining")))
      yield* sql.withTransaction(Effect.gen(function*() {
        assert.deepStrictEqual((yield* presence.touch("draining", [touch])).backOnline, new Set([agent.session]))
        yield* Deferred.succeed(touched, undefined)
        yield* Effect.repeat(isAwaited, { until: (isWaiting) => isWaiting || releasing.pollUnsafe() !== undefined })
      }))
      yield* Fiber.join(releasing)
      assert.strictEqual(yield* statusOfAgent, "offline")
    }))

  it.effect("a touch that arrives after the release fails, because the lease has ended", () =>
    Effect.gen(function*() {
      yield* stopOther
      const presence = yield* PresenceStore
      yield* presence.touch("draining", [touch])
      assert.strictEqual(yield* statusOfAgent, "online")
      yield* Effect.flatMap(NodeStore, (nodes) => nodes.release("draining"))
      assert.isTrue(Exit.isFailure(yield* Effect.exit(presence.touch("draining", [touch]))))
      assert.strictEqual(yield* statusOfAgent, "offline")
    }))

  it.effect("a draining node that releases keeps its lease, as long as another node can take its clients", () =>
    Effect.gen(function*() {
      yield* stopOther
      const nodes = yield* NodeStore
      const presence = yield* PresenceStore
      yield* nodes.renew({ id: "third", name: "third", version: "0.0.0", clients: 0, revision: 0 }, drainWindow)
      yield* presence.touch("draining", [touch])
      yield* nodes.release("draining")
      assert.strictEqual(yield* statusOfAgent, "online")
      assert.deepStrictEqual((yield* nodes.list).map(({ id, state }) => `${id} ${state}`), [
        "draining draining",
        "third live"
      ])
    }))
})
