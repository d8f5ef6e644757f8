/** Connecting and session states: protocol.md, "Connecting" and "States", row by row. */
import { api } from "#support/apiClient.ts"
import { TestServer } from "#support/TestServer.ts"
import { adminToken } from "#support/testDatabase.ts"
import { connect, join } from "#support/TestClient.ts"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"

const heartbeat = { type: "heartbeat", data: { timestamp: 1 } }

layer(TestServer.layer(), { excludeTestServices: true })("connecting at the plain level", (it) => {
  it.effect("without a type in the URL the key alone decides the client type", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const agent = yield* server.newAgent
      const client = yield* connect(server.wsPort)
      client.send({ type: "auth", data: { apiKey: agent.apiKey } })
      assert.deepStrictEqual((yield* client.expect("auth_success")).data, {
        agentId: agent.id,
        message: "Authentication successful"
      })
      assert.strictEqual((yield* client.expect("config")).data["agent"].id, agent.id)
    }))

  it.effect("an API key works as soon as its creation is answered, whether the feed has read it or not", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      // The plain API client does not wait for the feed.
      const operator = api(server.apiUrl, adminToken)
      for (let round = 0; round < 10; round++) {
        const { body: agent } = yield* Effect.promise(() => operator.post("/api/agents", { name: `unread ${round}` }))
        const client = yield* join(server.wsPort, "agent", agent.apiKey)
        assert.strictEqual(client.config.data["agent"].id, agent.id)
      }
    }))

  it.effect("a key of the other client type is an invalid key", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const agent = yield* server.newAgent
      const client = yield* connect(server.wsPort, "?type=gateway")
      client.send({ type: "auth", data: { apiKey: agent.apiKey, publicIp: "203.0.113.7" } })
      assert.deepStrictEqual(yield* client.next, { type: "auth_error", data: { message: "Invalid API key" } })
      assert.strictEqual((yield* client.closed).code, 4401)
    }))

  it.effect("an unknown type is rejected at the upgrade with HTTP 400", () =>
    Effect.gen(function*() {
      const { wsPort } = yield* TestServer
      const error = yield* Effect.flip(connect(wsPort, "?type=operator"))
      assert.include(error.message, "400")
    }))

  it.effect("an unknown subprotocol is rejected at the upgrade with HTTP 400", () =>
    Effect.gen(function*() {
      const { wsPort } = yield* TestServer
      const error = yield* Effect.flip(connect(wsPort, "", { protocols: ["control.v9"] }))
      assert.include(error.message, "400")
    }))

  it.effect("an apiKey in the URL is ignored, because auth is the only credential", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const agent = yield* server.newAgent
      const client = yield* connect(server.wsPort, `?type=agent&apiKey=${agent.apiKey}`)
      client.send(heartbeat)
      assert.strictEqual((yield* client.expect("error")).data["code"], "unauthenticated")
      client.send({ type: "auth", data: { apiKey: agent.apiKey } })
      yield* client.expect("auth_success")
    }))

  it.effect("messages sent right after auth wait and are handled in their order", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const agent = yield* server.newAgent
      const client = yield* connect(server.wsPort)
      client.send({ type: "auth", data: { apiKey: agent.apiKey } })
      client.send({ type: "hello", data: {} })
      yield* client.expect("auth_success")
      yield* client.expect("config")
      assert.strictEqual((yield* client.expect("error")).data["code"], "unknown_type")
    }))

  it.effect("each bad frame gets its code, and the connection stays open", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const { client } = yield* server.joinAgent
      const expected: ReadonlyArray<readonly [unknown, string]> = [
        ["{", "malformed_json"],
        ["[]", "invalid_message"],
        [{ type: "heartbeat", data: { timestamp: "now" } }, "invalid_message"],
        [{ type: "hello", data: {} }, "unknown_type"],
        [{ type: "__proto__", data: {} }, "unknown_type"],
        [{ type: "auth", data: { apiKey: "k" } }, "already_authenticated"],
        [{ type: "certificate_obtained", data: {} }, "not_allowed"]
      ]
      for (const [message, code] of expected) {
        client.send(message)
        const { data } = yield* client.expect("error")
        assert.deepStrictEqual(Object.keys(data), ["code", "message"])
        assert.strictEqual(data["code"], code)
      }
      client.send({ ...heartbeat, extra: 1 })
      client.send({ type: "hello", data: {} })
      assert.strictEqual(
        (yield* client.expect("error")).data["code"],
        "unknown_type",
        "the heartbeat with an unknown field caused no error"
      )
    }))

  it.effect("a binary frame closes with 4400", () =>
    Effect.gen(function*() {
      const { client } = yield* (yield* TestServer).joinAgent
      client.ws.send(Buffer.from("{}"))
      assert.strictEqual((yield* client.closed).code, 4400)
    }))

  it.effect("a message larger than the limit closes with 1009 and affects no other client", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const [one, other] = yield* Effect.all([server.joinAgent, server.joinAgent])
      one.client.send({ type: "status", data: { tunnels: [], filler: "x".repeat(262_144) } })
      assert.strictEqual((yield* one.client.closed).code, 1009)
      other.client.send({ type: "hello", data: {} })
      yield* other.client.expect("error")
    }))

  it.effect("a new session of a client replaces the old one, which is closed with 4409, and the client stays online", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const { client, apiKey, id } = yield* server.joinAgent
      const second = yield* join(server.wsPort, "agent", apiKey)
      assert.strictEqual((yield* client.closed).code, 4409)
      second.send({ type: "hello", data: {} })
      yield* second.expect("error")
      const { body } = yield* Effect.promise(() => server.operator.get(`/api/agents/${id}`))
      assert.strictEqual(body.status, "online")
    }))
})
