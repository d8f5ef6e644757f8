/** Rolling upgrade: a node of version 0.2.0 works on the current schema, together with a current node. */
import { NodeStore } from "#store/NodeStore.ts"
import { PresenceStore } from "#store/PresenceStore.ts"
import { newDatabase } from "#support/testDatabase.ts"
import { makeServer } from "#support/TestServer.ts"
import { join } from "#support/TestClient.ts"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Layer, Option, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { previousVersionNode } from "./previousVersionNode.ts"

const heartbeat = { type: "heartbeat", data: { timestamp: 1 } }

const startBoth = Effect.gen(function*() {
  const { url } = yield* newDatabase
  const today = yield* makeServer({ databaseUrl: Option.some(Redacted.make(url)) })
  const connections = yield* Layer.build(PgClient.layer({ url: Redacted.make(url), maxConnections: 2 }))
  const sql = Context.get(connections, SqlClient.SqlClient)
  const store = Context.get(today.context, PresenceStore)
  const shownStatus = (id: string) =>
    Effect.promise(() => today.operator.get(`/api/agents/${id}`)).pipe(Effect.map(({ body }) => String(body.status)))
  const sweep = Effect.map(store.expireSessions(Duration.seconds(75)), (swept) => swept.map(({ clientId }) => clientId))
  return { today, old: previousVersionNode(sql, "a node of 0.2.0"), sql, shownStatus, sweep }
})

const sessionsOf = (rows: ReadonlyArray<object>) => rows.map((row) => ("session" in row ? row.session : undefined))

describe("a node of 0.2.0 and a current node on one database", () => {
  it.live(
    "the clients of the 0.2.0 node are online, and expire only after it has not touched them for 75 s",
    () =>
      Effect.gen(function*() {
        const { old, shownStatus, sql, sweep, today } = yield* startBoth
        const { id } = yield* today.newAgent
        assert.deepStrictEqual(yield* old.claim(id, "old"), [])
        assert.strictEqual(yield* shownStatus(id), "online")
        const { body } = yield* Effect.promise(() => today.operator.get("/api/clients"))
        assert.deepStrictEqual(body.items.map(({ clientId }: { readonly clientId: string }) => clientId), [id])
        // The expired lease of another node does not affect the 0.2.0 node, which has none.
        yield* sql`insert into nodes (id, name, version, lease_until) values ('x', 'x', '0.3.0', now() - interval '9 s')`
        assert.deepStrictEqual(yield* sweep, [])
        assert.deepStrictEqual(sessionsOf(yield* old.touch(id, "old", 74_000)), ["old"])
        assert.deepStrictEqual(yield* sweep, [])
        assert.strictEqual(yield* shownStatus(id), "online")
        assert.deepStrictEqual(sessionsOf(yield* old.touch(id, "old", 76_000)), ["old"])
        yield* Effect.repeat(Effect.andThen(sweep, shownStatus(id)), { until: (status) => status === "offline" })
        // The late node marks its client online again with the next touch, and can release the client.
        assert.deepStrictEqual(sessionsOf(yield* old.touch(id, "old", 0)), ["old"])
        assert.strictEqual(yield* shownStatus(id), "online")
        yield* old.release(id, "old")
        assert.strictEqual(yield* shownStatus(id), "offline")
      }),
    30_000
  )

  it.live(
    "a client that moves from one node to the other and back is taken over each time",
    () =>
      Effect.gen(function*() {
        const { old, shownStatus, today } = yield* startBoth
        const { apiKey, client, id } = yield* today.joinAgent
        yield* old.claim(id, "old")
        client.send(heartbeat)
        assert.strictEqual((yield* client.closed).code, 4409, "the next touch of the current node detects the takeover")
        assert.deepStrictEqual(sessionsOf(yield* old.touch(id, "old", 0)), ["old"])

        const back = yield* join(today.wsPort, "agent", apiKey)
        assert.deepStrictEqual(yield* old.touch(id, "old", 0), [])
        assert.deepStrictEqual(yield* old.fate(id, "old", 60_000), [{ session: "old", taken: true }])
        yield* old.release(id, "old")
        assert.strictEqual(yield* shownStatus(id), "online")
        assert.strictEqual(back.ws.readyState, back.ws.OPEN)
        // The 0.2.0 node gets no mailbox row, because it has no lease and reads no mailbox.
        assert.deepStrictEqual(
          yield* Context.get(today.context, NodeStore).collectTakeovers("a node of 0.2.0"),
          new Set()
        )
      }),
    30_000
  )

  it.live(
    "the sweep of the 0.2.0 node does not mark clients of the current node offline",
    () =>
      Effect.gen(function*() {
        const { old, shownStatus, sql, today } = yield* startBoth
        const { client, id } = yield* today.joinAgent
        const touched = sql`select 1 from agents where id = ${id} and sent_revision is not null`
        yield* Effect.repeat(touched, { until: (rows) => rows.length > 0 })
        assert.deepStrictEqual(yield* old.sweep(75), [])
        assert.strictEqual(yield* shownStatus(id), "online")
        assert.strictEqual(client.ws.readyState, client.ws.OPEN)
      }),
    30_000
  )

  it.live("the 0.2.0 node reads every change of the current node, with all columns that it knows", () =>
    Effect.gen(function*() {
      const { old, today } = yield* startBoth
      const [agent, gateway] = [yield* today.newAgent, yield* today.newGateway]
      yield* today.newTunnel(agent.id)
      const limit = { serves: { agents: [agent.id], domains: [] } }
      const { status } = yield* Effect.promise(() => today.operator.patch(`/api/gateways/${gateway.id}`, limit))
      assert.strictEqual(status, 200)
      const rows = yield* old.changes(0)
      assert.isTrue(rows.every(({ newest, oldest, tag, timeline }) => Boolean(newest && oldest && tag && timeline)))
      const images = new Map(rows.map(({ entity, row_image: image }) => [String(entity), Object.keys(Object(image))]))
      for (const [entity, columns] of Object.entries(columnsOf020)) {
        assert.includeMembers(images.get(entity) ?? [], columns)
      }
    }))
})

/** The columns that 0.2.0 reads from a row image. It ignores other columns. */
const columnsOf020 = {
  agent: ["id", "name", "virtual_ip", "subnet", "wireguard_public_key", "wireguard_private_key"],
  gateway: ["id", "name", "public_ip", "listen_port", "slot", "wireguard_public_key", "wireguard_private_key"],
  tunnel: ["id", "agent_id", "domain", "target", "enabled"],
  key: ["id", "agent_id", "gateway_id", "hash"]
}
