/** The first renewals of a node's lease, when the renewing fiber and a claim run at the same time. */
import { newId } from "#crypto/identifiers.ts"
import { NodeStore } from "#store/NodeStore.ts"
import { ReservedPool } from "#store/ReservedPool.ts"
import { TestDatabase } from "#support/testDatabase.ts"
import { assert, layer } from "@effect/vitest"
import { Duration, Effect, Layer } from "effect"

const renewal = () => ({ id: newId(), name: "node", version: "0.0.0", clients: 0, revision: 0 })
const lease = Duration.seconds(10)

layer(NodeStore.layer.pipe(Layer.provideMerge(TestDatabase)), { excludeTestServices: true })(
  "the first lease",
  (it) => {
    it.effect("concurrent first renewals of one node all return its lease", () =>
      Effect.gen(function*() {
        const store = yield* NodeStore
        const sql = yield* ReservedPool
        // The insert of the first transaction is uncommitted while the second renewal finds no row to update.
        const node = renewal()
        const results = yield* Effect.all([
          sql.withTransaction(Effect.andThen(
            sql`insert into nodes (id, name, version, clients, revision, lease_until)
            values (${node.id}, ${node.name}, ${node.version}, 0, 0, now() + interval '10 seconds')`,
            sql`select pg_sleep(0.3)`
          )),
          Effect.andThen(sql`select pg_sleep(0.1)`, store.renew(node, lease))
        ], { concurrency: "unbounded" })
        assert.isDefined(results[1])
      }))

    it.effect("a node that another process has marked as draining gets no lease until the mark is cleared", () =>
      Effect.gen(function*() {
        const store = yield* NodeStore
        const sql = yield* ReservedPool
        const node = renewal()
        assert.isDefined(yield* store.renew(node, lease))
        assert.isFalse(yield* store.cancelDrain(node.id))
        yield* sql`update nodes set draining = true where id = ${node.id}`
        assert.isUndefined(yield* store.renew(node, lease))
        assert.isTrue(yield* store.cancelDrain(node.id))
        assert.isDefined(yield* store.renew(node, lease))
      }))
  }
)
