/** Lists, pages and cursors of the API. */
import { TestServer } from "#support/TestServer.ts"
import { assert, layer } from "@effect/vitest"
import { Context, Effect } from "effect"
import { SqlClient } from "effect/sql"

layer(TestServer.layer(), { excludeTestServices: true })("lists", (it) => {
  it.effect("pages contain every row once in the order of creation, also rows with equal timestamps", () =>
    Effect.gen(function*() {
      const { context, newAgent, operator } = yield* TestServer
      const { id } = yield* newAgent
      const sql = Context.get(context, SqlClient.SqlClient)
      yield* sql`insert into tunnels (agent_id, domain, target, created_at) select ${id}, 'd' || i || '.example.com', 'localhost:1',
        timestamptz '2026-01-01 00:00:00.000001+00' + (i / 4) * interval '1 microsecond' from generate_series(0, 22) i`
      const all = yield* Effect.promise(() => operator.get("/api/tunnels"))
      assert.strictEqual(all.body.items.length, 23)
      assert.isNull(all.body.nextCursor)
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
        assert.deepStrictEqual(seen, all.body.items)
      }
    }))

  it.effect("a cursor stays valid after its row is deleted", () =>
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

layer(TestServer.layer(), { excludeTestServices: true })("rows that another application has written", (it) => {
  it.effect("a timestamp out of range is clamped, and pages contain every such row once", () =>
    Effect.gen(function*() {
      const { context, newAgent, operator } = yield* TestServer
      const { id } = yield* newAgent
      const sql = Context.get(context, SqlClient.SqlClient)
      const times = ["-infinity", "4000-01-01 BC", "1600-01-01", "1960-01-01", "2026-01-01", "2250-01-01"]
      for (const [index, time] of times.entries()) {
        yield* sql`insert into tunnels (agent_id, domain, target, created_at)
          values (${id}, ${`t${index}.example.com`}, 'localhost:1', ${time}::timestamptz)`
      }
      const all = yield* Effect.promise(() => operator.get("/api/tunnels"))
      assert.deepStrictEqual(
        all.body.items.map(({ createdAt }: { createdAt: string }) => createdAt.slice(0, 10)),
        ["0001-01-01", "0001-01-01", "1600-01-01", "1960-01-01", "2026-01-01", "2250-01-01"]
      )
      const last = yield* Effect.promise(() => operator.get("/api/tunnels?limit=3"))
      const rest = yield* Effect.promise(() => operator.get(`/api/tunnels?cursor=${last.body.nextCursor}`))
      assert.deepStrictEqual([...last.body.items, ...rest.body.items], all.body.items)

      yield* sql`insert into tunnels (agent_id, domain, target, created_at)
        select ${id}, 'z' || i || '.example.com', 'localhost:1', 'infinity' from generate_series(1, 3) i`
      const ending = yield* Effect.promise(() => operator.get(`/api/tunnels?limit=7`))
      assert.strictEqual(ending.body.items.at(-1).createdAt, "9999-12-31T23:59:59.999Z")
      assert.isNull(ending.body.nextCursor)
    }))

  it.effect("an unreadable row is omitted from lists and hides no other row", () =>
    Effect.gen(function*() {
      const { context, newAgent, operator } = yield* TestServer
      const sql = Context.get(context, SqlClient.SqlClient)
      const before = yield* newAgent
      const keys = ["a", "b"].map((text) => text.repeat(43))
      yield* sql`insert into agents (id, name, virtual_ip, subnet, subnet_index, wireguard_public_key, wireguard_private_key)
        values (${"🦊".repeat(128)}, 'odd', '10.200.0.1', '10.200.0.0/24', 90000, ${keys[0]}, ${keys[1]})`
      const after = yield* newAgent
      const first = yield* Effect.promise(() => operator.get("/api/agents"))
      const ids = first.body.items.map(({ id }: { id: string }) => id)
      assert.includeMembers(ids, [before.id, after.id])
      assert.isFalse(ids.some((id: string) => id.startsWith("🦊")))
      const seen: Array<string> = []
      for (let cursor: string | null = ""; cursor !== null;) {
        const path: string = `/api/agents?limit=1${cursor === "" ? "" : `&cursor=${cursor}`}`
        const { body } = yield* Effect.promise(() => operator.get(path))
        seen.push(...body.items.map(({ id }: { id: string }) => id))
        cursor = body.nextCursor
      }
      assert.deepStrictEqual(seen, ids)
    }))
})

layer(TestServer.layer(), { excludeTestServices: true })("connected clients", (it) => {
  it.effect("/api/clients lists clients from authentication to disconnection", () =>
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
      assert.deepStrictEqual(
        [...first.body.items, ...second.body.items].map(({ clientId }) => clientId),
        [agent.id, gateway.id]
      )
      assert.isNull(second.body.nextCursor)

      const shown = yield* Effect.promise(() => operator.get(`/api/agents/${agent.id}`))
      const { address, clientVersion, lastSeenAt, level, since } = body.items[0]
      assert.deepInclude(shown.body, { status: "online", session: { address, clientVersion, level, since } })
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
