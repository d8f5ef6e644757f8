import { TestServer } from "#support/server.ts"
import { assert, layer } from "@effect/vitest"
import { Context, Effect } from "effect"
import { SqlClient } from "effect/sql"

layer(TestServer.layer(), { excludeTestServices: true })("lists", (it) => {
  it.effect("pages show every row once, in the order of creation, also those of one moment", () =>
    Effect.gen(function*() {
      const { context, newAgent, operator } = yield* TestServer
      const { id } = yield* newAgent
      const sql = Context.get(context, SqlClient.SqlClient)
      yield* sql`insert into tunnels (agent_id, domain, target, created_at) select ${id}, 'd' || i || '.example.com', 'localhost:1',
        timestamptz '2026-01-01 00:00:00.000001+00' + (i / 4) * interval '1 microsecond' from generate_series(0, 22) i`
      const whole = yield* Effect.promise(() => operator.get("/api/tunnels"))
      assert.strictEqual(whole.body.items.length, 23)
      assert.isNull(whole.body.nextCursor)
      for (const limit of [1, 5, 22, 23, 24, 1000]) {
        const seen: Array<unknown> = []
        let cursor: string | null = ""
        while (cursor !== null) {
          const path: string = `/api/tunnels?limit=${limit}${cursor === "" ? "" : `&cursor=${cursor}`}`
          const { body } = yield* Effect.promise(() => operator.get(path))
          assert.isAtMost(body.items.length, limit)
          seen.push(...body.items)
          cursor = body.nextCursor
        }
        assert.deepStrictEqual(seen, whole.body.items)
      }
    }))

  it.effect("a page goes on behind a row that has been deleted meanwhile", () =>
    Effect.gen(function*() {
      const { newGateway, operator } = yield* TestServer
      const ids = (yield* Effect.all([newGateway, newGateway, newGateway])).map(({ id }) => id)
      const first = yield* Effect.promise(() => operator.get("/api/gateways?limit=1"))
      assert.deepStrictEqual(first.body.items.map(({ id }: { id: string }) => id), ids.slice(0, 1))
      yield* Effect.promise(() => operator.delete(`/api/gateways/${ids[0]}`))
      const rest = yield* Effect.promise(() => operator.get(`/api/gateways?cursor=${first.body.nextCursor}`))
      assert.deepStrictEqual(rest.body.items.map(({ id }: { id: string }) => id), ids.slice(1))
    }))
})

layer(TestServer.layer(), { excludeTestServices: true })("connected clients", (it) => {
  it.effect("are those that have authenticated, until they leave", () =>
    Effect.gen(function*() {
      const { joinAgent, joinGateway, newAgent, operator } = yield* TestServer
      yield* newAgent
      const agent = yield* joinAgent
      const gateway = yield* joinGateway("203.0.113.7")
      const { body } = yield* Effect.promise(() => operator.get("/api/clients"))
      assert.deepStrictEqual(
        body.items.map(({ clientId, clientType }: Record<string, string>) => [clientType, clientId]),
        [
          ["agent", agent.id],
          ["gateway", gateway.id]
        ]
      )
      assert.deepInclude(body.items[0], { address: "127.0.0.1", level: "plain" })
      const first = yield* Effect.promise(() => operator.get("/api/clients?limit=1"))
      const second = yield* Effect.promise(() => operator.get(`/api/clients?limit=1&cursor=${first.body.nextCursor}`))
      assert.deepStrictEqual([...first.body.items, ...second.body.items], body.items)
      assert.isNull(second.body.nextCursor)

      const shown = yield* Effect.promise(() => operator.get(`/api/agents/${agent.id}`))
      const { address, lastSeenAt, level, since } = body.items[0]
      assert.deepInclude(shown.body, { status: "online", session: { address, level, since } })
      assert.isNotNull(lastSeenAt)

      const metrics = yield* Effect.promise(() => operator.get("/metrics"))
      assert.include(metrics.body, "control_connections{type=\"gateway\",level=\"plain\"} 1")

      agent.client.ws.close()
      yield* agent.client.closed
      const gone = yield* Effect.repeat(Effect.promise(() => operator.get(`/api/agents/${agent.id}`)), {
        until: ({ body }) => body.status === "offline"
      })
      assert.isNull(gone.body.session)
      const left = yield* Effect.promise(() => operator.get("/api/clients"))
      assert.deepStrictEqual(left.body.items.map(({ clientId }: { clientId: string }) => clientId), [gateway.id])
    }))
})
