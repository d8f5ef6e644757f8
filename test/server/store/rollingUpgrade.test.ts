/** Nodes are upgraded one after another: one of version 0.2.0 goes on, on today's schema, beside one of today. */
import { NodeStore } from "#store/NodeStore.ts"
import { PresenceStore } from "#store/PresenceStore.ts"
import { newDatabase } from "#support/database.ts"
import { makeServer } from "#support/server.ts"
import { join } from "#support/TestClient.ts"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Layer, Option, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { oldNode } from "./previousVersionNode.ts"

const heartbeat = { type: "heartbeat", data: { timestamp: 1 } }

const both = Effect.gen(function*() {
  const { url } = yield* newDatabase
  const today = yield* makeServer({ databaseUrl: Option.some(Redacted.make(url)) })
  const connections = yield* Layer.build(PgClient.layer({ url: Redacted.make(url), maxConnections: 2 }))
  const sql = Context.get(connections, SqlClient.SqlClient)
  const store = Context.get(today.context, PresenceStore)
  const shown = (id: string) =>
    Effect.promise(() => today.operator.get(`/api/agents/${id}`)).pipe(Effect.map(({ body }) => String(body.status)))
  const sweep = Effect.map(store.expireSessions(Duration.seconds(75)), (swept) => swept.map(({ clientId }) => clientId))
  return { today, old: oldNode(sql, "a node of 0.2.0"), sql, shown, sweep }
})

const sessionsOf = (rows: ReadonlyArray<object>) => rows.map((row) => ("session" in row ? row.session : undefined))

describe("a node of 0.2.0 beside one of today", () => {
  it.live(
    "its clients are shown as connected, and are swept only when it has not touched them",
    () =>
      Effect.gen(function*() {
        const { old, shown, sql, sweep, today } = yield* both
        const { id } = yield* today.newAgent
        assert.deepStrictEqual(yield* old.claim(id, "old"), [])
        assert.strictEqual(yield* shown(id), "online")
        const { body } = yield* Effect.promise(() => today.operator.get("/api/clients"))
        assert.deepStrictEqual(body.items.map(({ clientId }: { readonly clientId: string }) => clientId), [id])
        // A lease that lapses is of another node, and says nothing of one that has none.
        yield* sql`insert into nodes (id, name, version, lease_until) values ('x', 'x', '0.3.0', now() - interval '9 s')`
        assert.deepStrictEqual(yield* sweep, [])
        assert.deepStrictEqual(sessionsOf(yield* old.touch(id, "old", 74_000)), ["old"])
        assert.deepStrictEqual(yield* sweep, [])
        assert.strictEqual(yield* shown(id), "online")
        assert.deepStrictEqual(sessionsOf(yield* old.touch(id, "old", 76_000)), ["old"])
        yield* Effect.repeat(Effect.andThen(sweep, shown(id)), { until: (status) => status === "offline" })
        // It was only late: its next touch shows the client online again, and it may release it.
        assert.deepStrictEqual(sessionsOf(yield* old.touch(id, "old", 0)), ["old"])
        assert.strictEqual(yield* shown(id), "online")
        yield* old.release(id, "old")
        assert.strictEqual(yield* shown(id), "offline")
      }),
    30_000
  )

  it.live(
    "a client that goes from one to the other and back is taken over each time",
    () =>
      Effect.gen(function*() {
        const { old, shown, today } = yield* both
        const { apiKey, client, id } = yield* today.joinAgent
        yield* old.claim(id, "old")
        client.send(heartbeat)
        assert.strictEqual((yield* client.closed).code, 4409, "its next touch finds it taken over")
        assert.deepStrictEqual(sessionsOf(yield* old.touch(id, "old", 0)), ["old"])

        const back = yield* join(today.wsPort, "agent", apiKey)
        assert.deepStrictEqual(yield* old.touch(id, "old", 0), [])
        assert.deepStrictEqual(yield* old.fate(id, "old", 60_000), [{ session: "old", taken: true }])
        yield* old.release(id, "old")
        assert.strictEqual(yield* shown(id), "online")
        assert.strictEqual(back.ws.readyState, back.ws.OPEN)
        // No letter is written to who never reads one.
        assert.deepStrictEqual(
          yield* Context.get(today.context, NodeStore).collectTakeovers("a node of 0.2.0"),
          new Set()
        )
      }),
    30_000
  )

  it.live("its sweep leaves alone whom the other one touches, and shows nobody online", () =>
    Effect.gen(function*() {
      const { old, shown, sql, today } = yield* both
      const { client, id } = yield* today.joinAgent
      const touched = sql`select 1 from agents where id = ${id} and sent_revision is not null`
      yield* Effect.repeat(touched, { until: (rows) => rows.length > 0 })
      assert.deepStrictEqual(yield* old.sweep(75), [])
      assert.strictEqual(yield* shown(id), "online")
      assert.strictEqual(client.ws.readyState, client.ws.OPEN)
    }), 30_000)

  it.live("it reads every change that today's node writes, with all columns that it knows", () =>
    Effect.gen(function*() {
      const { old, today } = yield* both
      const [agent, gateway] = [yield* today.newAgent, yield* today.newGateway]
      yield* today.newTunnel(agent.id)
      const limit = { serves: { agents: [agent.id], domains: [] } }
      const { status } = yield* Effect.promise(() => today.operator.patch(`/api/gateways/${gateway.id}`, limit))
      assert.strictEqual(status, 200)
      const rows = yield* old.changes(0)
      assert.isTrue(rows.every(({ newest, oldest, tag, timeline }) => Boolean(newest && oldest && tag && timeline)))
      const images = new Map(rows.map(({ entity, row_image: image }) => [String(entity), Object.keys(Object(image))]))
      for (const [entity, columns] of Object.entries(oldColumns)) {
        assert.includeMembers(images.get(entity) ?? [], columns)
      }
    }))
})

/** What 0.2.0 takes from an image; it passes over what else is in it. */
const oldColumns = {
  agent: ["id", "name", "virtual_ip", "subnet", "wireguard_public_key", "wireguard_private_key"],
  gateway: ["id", "name", "public_ip", "listen_port", "slot", "wireguard_public_key", "wireguard_private_key"],
  tunnel: ["id", "agent_id", "domain", "target", "enabled"],
  key: ["id", "agent_id", "gateway_id", "hash"]
}
