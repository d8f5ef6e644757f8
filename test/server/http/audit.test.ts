/** The audit log as operators read it. */
import { HostName } from "#schema/ids.ts"
import { actingAs } from "#store/AuditActor.ts"
import { api } from "#support/apiClient.ts"
import { TestServer } from "#support/TestServer.ts"
import { Tunnels } from "#services/Tunnels.ts"
import { assert, layer } from "@effect/vitest"
import { Context, Effect } from "effect"
import { SqlClient } from "effect/sql"

interface Entry {
  readonly id: number
  readonly actor: string
  readonly address: string | null
  readonly action: string
  readonly entityType: string
  readonly entityId: string
  readonly name: string | null
  readonly fields: ReadonlyArray<string> | null
  readonly revision: number
}

const entries = (query = "") =>
  Effect.flatMap(TestServer, ({ operator }) =>
    Effect.promise(async () => {
      const { body, status } = await operator.get(`/api/audit${query}`)
      assert.strictEqual(status, 200, JSON.stringify(body))
      return body as { readonly items: ReadonlyArray<Entry>; readonly nextCursor: string | null }
    }))

layer(TestServer.layer(), { excludeTestServices: true })("audit log", (it) => {
  it.effect("the audit log lists actor, address, action and revision of every change, newest first", () =>
    Effect.gen(function*() {
      const { newAgent, newTunnel, operator } = yield* TestServer
      const agent = yield* newAgent
      const tunnel = yield* newTunnel(agent.id)
      yield* Effect.promise(() => operator.patch(`/api/tunnels/${tunnel.id}`, { enabled: false }))
      yield* Effect.promise(() => operator.delete(`/api/agents/${agent.id}?cascade=true`))
      const { items } = yield* entries()
      assert.deepStrictEqual(
        items.map(({ action, entityId }) => [action, entityId === agent.id || entityId === tunnel.id]),
        [
          ["key.delete", false],
          ["agent.delete", true],
          ["tunnel.delete", true],
          ["tunnel.update", true],
          ["tunnel.create", true],
          ["key.create", false],
          ["agent.create", true]
        ]
      )
      for (const { actor, address } of items) assert.deepStrictEqual([actor, address], ["admin", "127.0.0.1"])
      assert.deepStrictEqual(items.map(({ revision }) => revision), [7, 6, 5, 4, 3, 2, 1])
      assert.strictEqual(items[4]?.revision, tunnel.revision)
    }))

  it.effect("the audit log names the right actor of concurrent writes and of SQL writes", () =>
    Effect.gen(function*() {
      const { context, newAgent } = yield* TestServer
      const { id: agentId } = yield* newAgent
      const sql = Context.get(context, SqlClient.SqlClient)
      const tunnels = Context.get(context, Tunnels)
      const create = (name: string) =>
        tunnels.create({
          agentId: agentId as never,
          domain: HostName.make(`${name}.example.com`),
          target: "localhost:1"
        })
      const names = Array.from({ length: 20 }, (_, index) => `g${index}`)
      const made = yield* Effect.all(
        names.map((name) => create(name).pipe(actingAs(`gateway:${name}`, "203.0.113.7"))),
        { concurrency: "unbounded" }
      )
      yield* create("own")
      yield* sql`insert into tunnels (agent_id, domain, target) values (${agentId}, 'sql.example.com', 'localhost:1')`
      const { items } = yield* entries("?entityType=tunnel&limit=22")
      assert.match(items[0]?.actor ?? "", /^sql:/u)
      assert.deepInclude(items[1], { actor: "control", address: null })
      for (const [index, { id }] of made.entries()) {
        const entry = items.find(({ entityId }) => entityId === id)
        assert.deepInclude(entry, { actor: `gateway:g${index}`, address: "203.0.113.7" })
      }
    }))

  it.effect("requests that change nothing or are rejected create no audit entry", () =>
    Effect.gen(function*() {
      const { newAgent, newTunnel, operator } = yield* TestServer
      const agent = yield* newAgent
      const tunnel = yield* newTunnel(agent.id)
      const [newest] = (yield* entries("?limit=1")).items
      yield* Effect.promise(async () => {
        await operator.patch(`/api/agents/${agent.id}`, {})
        await operator.patch(`/api/tunnels/${tunnel.id}`, { enabled: true })
        assert.strictEqual((await operator.delete(`/api/agents/${agent.id}`)).status, 409)
        const again = { agentId: agent.id, domain: tunnel.domain, target: "localhost:1" }
        assert.strictEqual((await operator.post("/api/tunnels", again)).status, 409)
      })
      assert.deepStrictEqual((yield* entries("?limit=1")).items, newest === undefined ? [] : [newest])
    }))

  it.effect("pages of the audit log go back in time, unaffected by entries that are added between pages", () =>
    Effect.gen(function*() {
      const { newAgent } = yield* TestServer
      yield* newAgent
      const all = yield* entries()
      const seen: Array<Entry> = []
      for (let cursor: string | null = ""; cursor !== null;) {
        const page: Effect.Success<ReturnType<typeof entries>> = yield* entries(
          `?limit=3${cursor === "" ? "" : `&cursor=${cursor}`}`
        )
        assert.isAtMost(page.items.length, 3)
        seen.push(...page.items)
        cursor = page.nextCursor
        if (seen.length === 3) yield* newAgent
      }
      assert.deepStrictEqual(seen, all.items)
    }))

  it.effect("the audit log can be filtered by entity type and id", () =>
    Effect.gen(function*() {
      const { newAgent, newTunnel } = yield* TestServer
      const agent = yield* newAgent
      const tunnel = yield* newTunnel(agent.id)
      const one = yield* entries(`?entityType=tunnel&entityId=${tunnel.id}`)
      assert.deepStrictEqual(one.items.map(({ action }) => action), ["tunnel.create"])
      const agents = yield* entries("?entityType=agent")
      assert.isTrue(agents.items.every(({ entityType }) => entityType === "agent"))
      assert.strictEqual(agents.items[0]?.entityId, agent.id)
      assert.deepStrictEqual((yield* entries("?entityType=gateway")).items, [])
    }))

  it.effect("an audit entry contains name and changed columns, also of deleted rows, but no values", () =>
    Effect.gen(function*() {
      const { newAgent, newTunnel, operator } = yield* TestServer
      const agent = yield* newAgent
      const tunnel = yield* newTunnel(agent.id)
      yield* Effect.promise(async () => {
        await operator.patch(`/api/agents/${agent.id}`, { name: "renamed" })
        await operator.patch(`/api/tunnels/${tunnel.id}`, { enabled: false, target: "localhost:99" })
        await operator.delete(`/api/agents/${agent.id}?cascade=true`)
      })
      const { items } = yield* entries("?limit=8")
      assert.sameDeepMembers(items.map(({ action, fields, name }) => [action, name, fields]), [
        ["key.delete", `agent:${agent.id}`, null],
        ["agent.delete", "renamed", null],
        ["tunnel.delete", tunnel.domain, null],
        ["tunnel.update", tunnel.domain, ["enabled", "target"]],
        ["agent.update", "renamed", ["name"]],
        ["tunnel.create", tunnel.domain, null],
        ["key.create", `agent:${agent.id}`, null],
        ["agent.create", items.at(-1)?.name, null]
      ])
      assert.match(items.at(-1)?.name ?? "", /^agent \d/u)
    }))

  it.effect("changes of admin tokens are audited, and changes by a token name its id and name", () =>
    Effect.gen(function*() {
      const { apiUrl, operator } = yield* TestServer
      yield* Effect.promise(async () => {
        const { id, token } = (await operator.post("/api/tokens", { name: "deploy", role: "operate" })).body
        const made = await api(apiUrl, token).post("/api/agents", { name: "by token" })
        await operator.delete(`/api/tokens/${id}`)
        const { items } = (await operator.get(`/api/audit?actor=token:${id}`)).body
        assert.deepInclude(items.at(-1), {
          action: "agent.create",
          entityId: made.body.id,
          name: "by token",
          actorName: "deploy",
          address: "127.0.0.1"
        })
        const own = (await operator.get(`/api/audit?entityType=token&entityId=${id}`)).body.items
        assert.deepStrictEqual(
          own.map((entry: Entry) => [entry.action, entry.name, entry.actor, entry.revision]),
          [["token.delete", "deploy", "admin", null], ["token.create", "deploy", "admin", null]]
        )
        const later = await operator.get("/api/audit?since=2900-01-01T00:00:00.000Z")
        assert.deepStrictEqual(later.body.items, [])
        const earlier = await operator.get("/api/audit?until=2001-01-01T00:00:00.000Z")
        assert.deepStrictEqual(earlier.body.items, [])
      })
    }))

  it.effect("the audit table rejects update, delete and truncate", () =>
    Effect.gen(function*() {
      const { context } = yield* TestServer
      const sql = Context.get(context, SqlClient.SqlClient)
      for (const statement of ["update audit set actor = 'other'", "delete from audit", "truncate audit"]) {
        const error = yield* Effect.flip(sql.unsafe(statement))
        assert.include(String(error.reason.cause), "only added to")
      }
    }))

  it.effect("the audit list rejects invalid cursors, limits and entity types", () =>
    Effect.gen(function*() {
      const { operator } = yield* TestServer
      const sent = (text: string) => Buffer.from(text).toString("base64url")
      yield* Effect.promise(async () => {
        for (const query of ["limit=0", "entityType=house", "entityId=", "entityId=%00", "since=1"]) {
          assert.strictEqual((await operator.get(`/api/audit?${query}`)).status, 400, query)
        }
        for (const cursor of ["", "!", sent("x"), sent("-1"), sent("1.5"), sent("9".repeat(16))]) {
          assert.strictEqual((await operator.get(`/api/audit?cursor=${cursor}`)).status, 400, cursor)
        }
        const far = await operator.get(`/api/audit?cursor=${sent("9".repeat(15))}`)
        assert.strictEqual(far.status, 200)
      })
    }))
})
