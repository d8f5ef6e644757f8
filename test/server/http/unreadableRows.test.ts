/** Rows that another application has written and Control cannot decode. */
import { TestServer } from "#support/TestServer.ts"
import { assert, layer } from "@effect/vitest"
import { Context, Effect } from "effect"
import { SqlClient } from "effect/sql"

const type = "urn:control:problem:unreadable-row"

layer(TestServer.layer(), { excludeTestServices: true })("unreadable rows", (it) => {
  it.effect("an unreadable row is reported with id and column but no contents, and hides no other row", () =>
    Effect.gen(function*() {
      const { context, newGateway, operator } = yield* TestServer
      const [unreadable, readable] = yield* Effect.all([newGateway, newGateway])
      yield* Context.get(context, SqlClient.SqlClient)`
        update gateways set serves = '{"agents": ["a"], "domains": ["a.example.com", "secret content"]}' where id = ${unreadable.id}`
      const response = yield* Effect.promise(() => operator.get(`/api/gateways/${unreadable.id}`))
      assert.strictEqual(response.status, 409)
      assert.strictEqual(response.body.type, type)
      assert.include(response.body.detail, unreadable.id)
      assert.include(response.body.detail, "serves.domains.1")
      assert.notInclude(response.body.detail, "secret content")

      const list = yield* Effect.promise(() => operator.get("/api/gateways"))
      assert.deepStrictEqual(list.body.items.map(({ id }: { id: string }) => id), [readable.id])
      assert.deepStrictEqual(list.body.unreadable, [
        {
          entityType: "gateway",
          entityId: unreadable.id,
          reason: "this version does not understand serves.domains.1"
        }
      ])
    }))

  it.effect("an update of the invalid column repairs a row; an update of other columns is rejected", () =>
    Effect.gen(function*() {
      const { context, newGateway, operator } = yield* TestServer
      const { id } = yield* newGateway
      const sql = Context.get(context, SqlClient.SqlClient)
      yield* sql`update gateways set name = 'before', serves = '{"agents": [7], "domains": []}' where id = ${id}`
      const path = `/api/gateways/${id}`
      const rejected = yield* Effect.promise(() => operator.patch(path, { name: "after" }))
      assert.deepInclude(rejected.body, { status: 409, type })
      assert.deepStrictEqual([...yield* sql`select name from gateways where id = ${id}`], [{ name: "before" }])
      const repaired = yield* Effect.promise(() => operator.patch(path, { serves: { domains: ["a.example.com"] } }))
      assert.deepInclude(repaired.body, { name: "before", serves: { agents: [], domains: ["a.example.com"] } })
      const shown = yield* Effect.promise(() => operator.get(path))
      assert.strictEqual(shown.status, 200)
    }))

  it.effect("any update repairs a row with an unreadable nack", () =>
    Effect.gen(function*() {
      const { context, newAgent, newGateway, operator } = yield* TestServer
      const sql = Context.get(context, SqlClient.SqlClient)
      for (const [table, { id }] of [["agents", yield* newAgent], ["gateways", yield* newGateway]] as const) {
        yield* sql`update ${sql(table)} set nack = '{"code": 7}' where id = ${id}`
        const path = `/api/${table}/${id}`
        const before = yield* Effect.promise(() => operator.get(path))
        assert.deepInclude(before.body, { status: 409, type })
        assert.include(before.body.detail, "lastNack.code")
        const repaired = yield* Effect.promise(() => operator.patch(path, { name: "repaired" }))
        assert.deepInclude(repaired.body, { name: "repaired", lastNack: null })
      }
    }))

  it.effect("an unreadable row can be deleted", () =>
    Effect.gen(function*() {
      const { context, newAgent, newGateway, newTunnel, operator } = yield* TestServer
      const sql = Context.get(context, SqlClient.SqlClient)
      const gateway = yield* newGateway
      const agent = yield* newAgent
      const tunnel = yield* newTunnel(agent.id)
      const long = encodeURIComponent("🦊".repeat(128))
      yield* sql`update gateways set serves = '{"agents": [], "domains": [null]}' where id = ${gateway.id}`
      yield* sql`update tunnels set id = ${"🦊".repeat(128)}, revision = -1 where id = ${tunnel.id}`
      yield* sql`update agents set nack = '[]' where id = ${agent.id}`
      for (const path of [`gateways/${gateway.id}`, `tunnels/${long}`, `agents/${agent.id}`]) {
        const found = yield* Effect.promise(() => operator.get(`/api/${path}`))
        assert.deepInclude(found.body, { status: 409, type }, path)
        const gone = yield* Effect.promise(() => operator.delete(`/api/${path}`))
        assert.strictEqual(gone.status, 204, path)
        const after = yield* Effect.promise(() => operator.get(`/api/${path}`))
        assert.strictEqual(after.status, 404, path)
      }
    }))
})
