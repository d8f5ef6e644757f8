/** Faults behind the server, as its clients see them. */
import { TestServer } from "#support/TestServer.ts"
import { connect, join } from "#support/TestClient.ts"
import { reasonToClose } from "#network/revocation.ts"
import { apply, empty, type Key } from "#network/NetworkState.ts"
import { AgentId, KeyId, Revision, Timeline } from "#schema/ids.ts"
import { issueCertificate } from "#support/certificates.ts"
import { PgClient } from "@effect/sql-pg"
import { assert, it, layer } from "@effect/vitest"
import { Context, Effect, Layer, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { inject } from "vitest"

layer(TestServer.layer(), { excludeTestServices: true })("a server without notifications", (it) => {
  it.effect("a change still arrives when every NOTIFY is lost", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const sql = Context.get(server.context, SqlClient.SqlClient)
      const { client, id } = yield* server.joinAgent
      const [{ definition }] =
        (yield* sql`select pg_get_functiondef('control_append_change'::regproc) as definition`) as unknown as [
          { definition: string }
        ]
      yield* sql.unsafe(definition.replace(/perform pg_notify[^;]*;/u, ""))
      yield* server.newTunnel(id)
      yield* client.expect("tunnel_create")
      yield* sql.unsafe(definition)
    }))

  it.effect("a terminated LISTEN connection is opened again", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const sql = Context.get(server.context, SqlClient.SqlClient)
      const { client, id } = yield* server.joinAgent
      const listeners =
        sql`select pid from pg_stat_activity where datname = current_database() and query ilike 'listen%'`
      const before = yield* Effect.repeat(listeners, { until: (rows) => rows.length > 0 })
      yield* sql`select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query ilike 'listen%'`
      yield* Effect.repeat(listeners, { until: (rows) => rows.length > 0 && rows[0]?.pid !== before[0]?.pid })
      yield* server.newTunnel(id)
      yield* client.expect("tunnel_create")
    }))
})

layer(TestServer.layer(), { excludeTestServices: true })("a defect", (it) => {
  it.effect("a defect in one session closes that session with 1011 and no other", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const sql = Context.get(server.context, SqlClient.SqlClient)
      const agent = yield* server.newAgent
      const { domain } = yield* server.newTunnel(agent.id)
      const [one, other] = yield* Effect.all([server.joinGateway(), server.joinGateway()])
      // A missing column is a defect, not a temporary database failure.
      yield* sql`alter table certificates rename column certificate to renamed`
      one.client.send({ type: "certificate_obtained", data: { domain, ...issueCertificate({ names: [domain] }) } })
      assert.strictEqual((yield* one.client.closed).code, 1011)
      yield* sql`alter table certificates rename column renamed to certificate`
      other.client.send({ type: "hello", data: {} })
      yield* Effect.repeat(other.client.next, { until: ({ type }) => type === "error" })
      const again = yield* join(server.wsPort, "gateway", one.apiKey)
      again.send({ type: "certificate_obtained", data: { domain, ...issueCertificate({ names: [domain] }) } })
      yield* Effect.repeat(again.next, {
        until: ({ type, data }) => type === "config" && data["certificates"].length === 1
      })
    }))

  it.effect("an unreadable row is sent to no client, and later changes still arrive", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const sql = Context.get(server.context, SqlClient.SqlClient)
      const { client, id } = yield* server.joinAgent
      yield* sql`update agents set wireguard_private_key = 'not a ciphertext', name = 'damaged' where id = ${id}`
      yield* server.newTunnel(id)
      assert.strictEqual((yield* client.next).type, "tunnel_create")
      const again = yield* join(
        server.wsPort,
        "agent",
        (yield* Effect.promise(() => server.operator.post(`/api/agents/${id}/keys`, {}))).body.apiKey
      )
      assert.deepStrictEqual(
        again.config.data["agent"],
        client.config.data["agent"],
        "the last readable version is kept"
      )
    }))
})

it("a client whose row is unreadable is closed as a defect, not as deleted", () => {
  const key: Key = { id: KeyId.make("k"), hash: "h", owner: { type: "agent", id: AgentId.make("a") } }
  const nothing = empty(Timeline.make("t"), Revision.make(1))
  const client = { ref: key.owner, key }
  assert.strictEqual(reasonToClose(nothing, client), "deleted")
  assert.strictEqual(
    reasonToClose(apply(nothing, { _tag: "KeyPut", revision: Revision.make(2), key }), client),
    "defect"
  )
})

layer(TestServer.layer({ maxUnauthenticatedPerIp: 3 }), { excludeTestServices: true })("the WebSocket port", (it) => {
  it.effect("beyond the limit of unauthenticated sockets the upgrade gets 503, and authenticated sockets do not count", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      yield* server.joinAgent
      const waiting = yield* Effect.all([connect(server.wsPort), connect(server.wsPort), connect(server.wsPort)])
      assert.include((yield* Effect.flip(connect(server.wsPort))).message, "503")
      waiting[0].ws.close()
      yield* waiting[0].closed
      yield* Effect.retry(connect(server.wsPort), { times: 50 })
    }))

  it.effect("a request without an upgrade is answered with 426", () =>
    Effect.gen(function*() {
      const { wsPort } = yield* TestServer
      const { status } = yield* Effect.promise(() => fetch(`http://127.0.0.1:${wsPort}/`))
      assert.strictEqual(status, 426)
    }))
})

layer(TestServer.layer(), { excludeTestServices: true })("a database outage", (it) => {
  it.effect("an outage never looks like a bad key, sockets stay open, and later changes arrive after it", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const agent = yield* server.joinAgent
      const sql = Context.get(server.context, SqlClient.SqlClient)
      const [{ name }] = (yield* sql`select current_database() as name`) as unknown as [{ name: string }]
      const onServer = PgClient.layer({ url: Redacted.make(inject("serverUrl")), maxConnections: 1 })
      const admin = Context.get(yield* Layer.build(onServer), PgClient.PgClient)
      yield* admin.unsafe(`alter database ${name} with allow_connections false`)
      yield* admin`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${name}`

      for (const apiKey of [agent.apiKey, "ctl_agt_unknown"]) {
        const client = yield* connect(server.wsPort)
        client.send({ type: "auth", data: { apiKey } })
        assert.deepStrictEqual((yield* client.expect("auth_error")).data, { message: "Internal server error" })
        assert.strictEqual((yield* client.closed).code, 1013)
      }
      const ready = yield* Effect.promise(() => server.operator.get("/readyz"))
      const alive = yield* Effect.promise(() => server.operator.get("/healthz"))
      const write = yield* Effect.promise(() => server.operator.post("/api/agents", { name: "x" }))
      assert.deepStrictEqual([ready.status, alive.status, write.status], [503, 200, 503])
      assert.strictEqual(write.headers.get("content-type"), "application/problem+json")
      agent.client.send({ type: "hello", data: {} })
      assert.strictEqual((yield* agent.client.expect("error")).data["code"], "unknown_type")

      yield* admin.unsafe(`alter database ${name} with allow_connections true`)
      yield* Effect.repeat(Effect.promise(() => server.operator.get("/readyz")), {
        until: ({ status }) => status === 200
      })
      yield* server.newTunnel(agent.id)
      yield* agent.client.expect("tunnel_create")
    }))
})

layer(TestServer.layer(), { excludeTestServices: true })("a login storm", (it) => {
  it.effect("100 clients at once all log in, in few transactions, and all go offline when they disconnect", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const sql = Context.get(server.context, SqlClient.SqlClient)
      const agents = yield* Effect.forEach(Array.from({ length: 100 }), () => server.newAgent, { concurrency: 8 })
      const transactions = Effect.map(
        sql`select pg_snapshot_xmax(pg_current_snapshot())::text::float8 as next`,
        (rows) => Number(rows[0]?.next)
      )
      const sockets = yield* Effect.forEach(agents, () => connect(server.wsPort), { concurrency: "unbounded" })
      const before = yield* transactions
      for (const [index, socket] of sockets.entries()) {
        socket.send({ type: "auth", data: { apiKey: agents[index]?.apiKey } })
      }
      for (const socket of sockets) {
        yield* socket.expect("auth_success")
        yield* socket.expect("config")
      }
      assert.isBelow((yield* transactions) - before, 50, "claims share transactions")
      const online = Effect.map(
        sql`select count(*)::int as n from agents where status = 'online'`,
        (rows) => Number(rows[0]?.n)
      )
      assert.strictEqual(yield* online, 100)
      for (const socket of sockets) socket.ws.close()
      assert.strictEqual(yield* Effect.repeat(online, { until: (n) => n === 0 }), 0)
    }))
})
