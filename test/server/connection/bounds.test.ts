/** Isolation: a misbehaving client or an open transaction does not affect other clients. */
import { TestServer } from "#support/TestServer.ts"
import { connect, join, joinV1 } from "#support/TestClient.ts"
import { assert, layer } from "@effect/vitest"
import { Context, Deferred, Effect, Fiber } from "effect"
import { SqlClient } from "effect/sql"

layer(TestServer.layer(), { excludeTestServices: true })("isolation of clients", (it) => {
  it.effect("a client that floods with pings or pongs is closed", () =>
    Effect.gen(function*() {
      const { wsPort } = yield* TestServer
      for (const kind of ["ping", "pong"] as const) {
        const client = yield* connect(wsPort)
        for (let count = 0; count < 400; count++) client.ws[kind]()
        // Pongs of the server may follow its close frame, and then the close code does not arrive.
        assert.include(kind === "pong" ? [4429] : [4429, 1006], (yield* client.closed).code)
      }
    }))

  it.effect("text that PostgreSQL cannot store is cleaned, so that it fails no write", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const agent = yield* server.newAgent
      const client = yield* joinV1(server.wsPort, "agent", agent.apiKey, { clientVersion: "mine\0\ud800/1" })
      const { revision } = yield* client.expect("config")
      client.send({ type: "nack", data: { revision, code: "c\0", message: "m\0\ud800" } })
      client.send({ type: "heartbeat", data: { timestamp: 1 } })
      yield* client.expect("heartbeat_ack")
      client.ws.close()
      yield* client.closed
      // The release of the session writes the nack to the row.
      const seen = Effect.promise(() => server.operator.get(`/api/agents/${agent.id}`))
      const { body } = yield* Effect.repeat(seen, { until: ({ body }) => body.status === "offline" })
      assert.deepInclude(body.lastNack, { code: "c", message: "m\ufffd" })
    }))

  it.effect("a row locked by another transaction delays its own client and no other", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const sql = Context.get(server.context, SqlClient.SqlClient)
      const locked = yield* server.newAgent
      const other = yield* server.newAgent
      const isLocked = yield* Deferred.make<void>()
      const release = yield* Deferred.make<void>()
      const transaction = yield* Effect.forkChild(sql.withTransaction(Effect.gen(function*() {
        yield* sql`select 1 from agents where id = ${locked.id} for update`
        yield* Deferred.succeed(isLocked, undefined)
        yield* Deferred.await(release)
      })))
      yield* Deferred.await(isLocked)
      // Both connect at once, so that their sessions are claimed in one transaction.
      const clients = yield* Effect.forEach(
        [locked, other],
        ({ apiKey }) => Effect.map(connect(server.wsPort, "?type=agent"), (client) => ({ client, apiKey }))
      )
      for (const { apiKey, client } of clients) client.send({ type: "auth", data: { apiKey } })
      const [waiting, free] = clients
      yield* free?.client.expect("auth_success") ?? Effect.die("no client")
      assert.strictEqual(waiting?.client.unread(), 0)
      yield* join(server.wsPort, "agent", (yield* server.newAgent).apiKey)
      assert.strictEqual(waiting?.client.unread(), 0)
      yield* Deferred.succeed(release, undefined)
      yield* Fiber.join(transaction)
      yield* waiting?.client.expect("auth_success") ?? Effect.die("no client")
    }))
})
