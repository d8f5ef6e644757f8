/** A start on a large network: the API serves and shows the progress, and agents wait until the network is read. */
import { Listener } from "#connection/Listener.ts"
import { Network } from "#feed/Network.ts"
import { freePort } from "#support/freePort.ts"
import { api } from "#support/apiClient.ts"
import { adminToken, newDatabase } from "#support/testDatabase.ts"
import { makeServer } from "#support/TestServer.ts"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Option, Redacted, Schedule } from "effect"
import { SqlClient } from "effect/sql"

/** Two pages. The reading of the second page waits for the advisory lock 42. */
const slowNetwork = [
  `insert into agents (id, name, virtual_ip, subnet, subnet_index, wireguard_public_key)
    select 'a' || i, 'seeded ' || i, '10.' || i / 256 || '.' || i % 256 || '.1', '10.' || i / 256 || '.' || i % 256 || '.0/24',
      i, 'key ' || i from generate_series(0, 1499) i`,
  `create or replace function control_row_image(full_row jsonb) returns jsonb language plpgsql as $$
    begin
      if full_row ->> 'id' = 'a1200' then perform pg_advisory_xact_lock_shared(42); end if;
      return full_row;
    end $$`
]

const readers = `select pid from pg_locks where locktype = 'advisory' and objid = 42 and not granted`

describe("a start on a large network", () => {
  it.live("/readyz shows the progress, a broken reading begins again, and agents connect only after the reading", () =>
    Effect.gen(function*() {
      const { url } = yield* newDatabase
      const sql = yield* Effect.provide(
        SqlClient.SqlClient,
        yield* Layer.build(PgClient.layer({ url: Redacted.make(url), maxConnections: 2 }))
      )
      yield* Effect.forEach(slowNetwork, (statement) => sql.unsafe(statement))
      const holder = yield* sql.reserve
      yield* holder.executeUnprepared("select pg_advisory_lock(42)", [], undefined)
      /** The connection that waits, other than this one. */
      const waitingReader = (other = 0) =>
        Effect.map(sql.unsafe<{ pid: number }>(readers), (rows) => rows.find(({ pid }) => pid !== other)?.pid).pipe(
          Effect.repeat({ until: (pid) => pid !== undefined, schedule: Schedule.spaced("10 millis") })
        )

      const apiPort = yield* Effect.promise(freePort)
      const starting = yield* Effect.forkScoped(
        makeServer({ databaseUrl: Option.some(Redacted.make(url)), apiPort })
      )
      const pid = yield* waitingReader()
      const operator = api(`http://127.0.0.1:${apiPort}`, adminToken)
      const ready = yield* Effect.promise(() => operator.get("/readyz"))
      assert.strictEqual(ready.status, 503)
      assert.strictEqual(ready.body.detail, "reading the network: 1,000 of 1,500 rows")
      const live = yield* Effect.promise(() => operator.get("/healthz"))
      assert.strictEqual(live.status, 200)
      const agents = yield* Effect.promise(() => operator.get("/api/agents?limit=1"))
      assert.lengthOf(agents.body.items, 1)
      // No other node may hand its clients to this one yet, and the API does not show an empty network.
      assert.lengthOf(yield* sql`select 1 from nodes`, 0)
      const network = yield* Effect.promise(() => operator.get("/api/network"))
      assert.strictEqual(network.status, 503)
      assert.isUndefined(starting.pollUnsafe())

      yield* sql`select pg_terminate_backend(${pid ?? 0})`
      yield* waitingReader(pid)
      yield* holder.executeUnprepared("select pg_advisory_unlock(42)", [], undefined)
      const server = yield* Fiber.join(starting)
      assert.isAbove(Context.get(server.context, Listener).port, 0)
      const state = yield* Context.get(server.context, Network).state
      assert.strictEqual(state.agents.size, 1_500)
      assert.strictEqual((yield* Effect.promise(() => operator.get("/readyz"))).status, 200)
      const { client } = yield* server.joinAgent
      assert.deepStrictEqual(client.config.data["tunnels"], [])
    }))
})
