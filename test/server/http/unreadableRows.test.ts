/** Rows that another application has written in a way that cannot be read. */
import { TestServer } from "#support/server.ts"
import { assert, layer } from "@effect/vitest"
import { Context, Effect } from "effect"
import { SqlClient } from "effect/sql"

const type = "urn:control:problem:unreadable-row"

layer(TestServer.layer(), { excludeTestServices: true })("a row that cannot be read", (it) => {
  it.effect("is told by name and place, without what is there, and hides no other", () =>
    Effect.gen(function*() {
      const { context, newGateway, operator } = yield* TestServer
      const [odd, whole] = yield* Effect.all([newGateway, newGateway])
      yield* Context.get(context, SqlClient.SqlClient)`
        update gateways set serves = '{"agents": ["a"], "domains": ["a.example.com", "what is there"]}' where id = ${odd.id}`
      const answer = yield* Effect.promise(() => operator.get(`/api/gateways/${odd.id}`))
      assert.strictEqual(answer.status, 409)
      assert.strictEqual(answer.body.type, type)
      assert.include(answer.body.detail, odd.id)
      assert.include(answer.body.detail, "serves.domains.1")
      assert.notInclude(answer.body.detail, "what is there")

      const list = yield* Effect.promise(() => operator.get("/api/gateways"))
      assert.deepStrictEqual(list.body.items.map(({ id }: { id: string }) => id), [whole.id])
      assert.deepStrictEqual(list.body.leftOut, [
        {
          entityType: "gateway",
          entityId: odd.id,
          reason: "this version does not understand serves.domains.1"
        }
      ])
    }))

  it.effect("is mended by a change of what is wrong; another change is refused and changes nothing", () =>
    Effect.gen(function*() {
      const { context, newGateway, operator } = yield* TestServer
      const { id } = yield* newGateway
      const sql = Context.get(context, SqlClient.SqlClient)
      yield* sql`update gateways set name = 'before', serves = '{"agents": [7], "domains": []}' where id = ${id}`
      const path = `/api/gateways/${id}`
      const refused = yield* Effect.promise(() => operator.patch(path, { name: "after" }))
      assert.deepInclude(refused.body, { status: 409, type })
      assert.deepStrictEqual([...yield* sql`select name from gateways where id = ${id}`], [{ name: "before" }])
      const mended = yield* Effect.promise(() => operator.patch(path, { serves: { domains: ["a.example.com"] } }))
      assert.deepInclude(mended.body, { name: "before", serves: { agents: [], domains: ["a.example.com"] } })
      const shown = yield* Effect.promise(() => operator.get(path))
      assert.strictEqual(shown.status, 200)
    }))

  it.effect("for what its client has said is mended by any change", () =>
    Effect.gen(function*() {
      const { context, newAgent, newGateway, operator } = yield* TestServer
      const sql = Context.get(context, SqlClient.SqlClient)
      for (const [table, { id }] of [["agents", yield* newAgent], ["gateways", yield* newGateway]] as const) {
        yield* sql`update ${sql(table)} set nack = '{"code": 7}' where id = ${id}`
        const path = `/api/${table}/${id}`
        const before = yield* Effect.promise(() => operator.get(path))
        assert.deepInclude(before.body, { status: 409, type })
        assert.include(before.body.detail, "lastNack.code")
        const mended = yield* Effect.promise(() => operator.patch(path, { name: "mended" }))
        assert.deepInclude(mended.body, { name: "mended", lastNack: null })
      }
    }))

  it.effect("can be deleted, whatever is wrong with it", () =>
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
