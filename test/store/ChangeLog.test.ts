import { ChangeLog } from "#store/ChangeLog.ts"
import { Revision } from "#schema/ids.ts"
import { TestDatabase } from "#support/database.ts"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { Secrets } from "#store/Secrets.ts"

layer(ChangeLog.layer.pipe(Layer.provideMerge(TestDatabase)), { excludeTestServices: true })("the log of changes", (it) => {
  it.effect("gives every committed change of a row one revision", () =>
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const log = yield* ChangeLog
      const { cipher } = yield* Secrets
      const key = cipher.encrypt("k", { table: "agents", column: "wireguard_private_key", row: "a1" })
      yield* sql`insert into agents (id, name, virtual_ip, subnet, subnet_index, wireguard_public_key, wireguard_private_key)
        values ('a1', 'home', '10.64.0.1', '10.64.0.0/24', 0, 'pub', ${key})`
      yield* sql`insert into tunnels (agent_id, domain, target) values ('a1', 'app.example.com', 'localhost:80')`
      yield* sql`update agents set last_seen_at = now()`
      const page = yield* log.after(Revision.make(0))
      assert.deepStrictEqual(page.changes.map((change) => change._tag), ["AgentPut", "TunnelPut"])
      assert.strictEqual(page.upTo, 2)
      const state = yield* log.snapshot
      assert.strictEqual(state.revision, 2)
      console.log(JSON.stringify(yield* sql`select * from tunnels`, (_, v) => typeof v === "bigint" ? Number(v) : v))
      const before = performance.now()
      yield* sql`insert into tunnels (agent_id, domain, target) select 'a1', 'a' || i || '.example.com', 'localhost:80' from generate_series(1, 2000) i`
      console.log("2000 rows in one transaction: ms", performance.now() - before)
    }))
})
