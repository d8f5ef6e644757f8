/** Limits of connections, of message sizes before authentication, and of bytes per second. */
import { sendUpgrade } from "#support/rawHttp.ts"
import { TestServer } from "#support/TestServer.ts"
import { connect } from "#support/TestClient.ts"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import type { Socket } from "node:net"

layer(TestServer.layer({ maxConnections: 3 }), { excludeTestServices: true })("connection limit", (it) => {
  it.effect("an upgrade above the limit gets 503 with Retry-After, and unauthenticated connections count too", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      yield* server.joinAgent
      yield* server.joinGateway()
      const waiting = yield* connect(server.wsPort)
      const answer = yield* sendUpgrade(server.wsPort)
      assert.strictEqual(answer.status, 503)
      assert.match(answer.head, /retry-after: \d+/u)
      waiting.ws.close()
      yield* waiting.closed
      yield* Effect.retry(connect(server.wsPort), { times: 100 })
    }))
})

layer(TestServer.layer(), { excludeTestServices: true })("size limit before authentication", (it) => {
  const auth = (apiKey: string, bytes: number) => {
    const message = JSON.stringify({ type: "auth", data: { apiKey, filler: "" } })
    return message.replace(`"filler":""`, `"filler":"${"x".repeat(bytes - message.length)}"`)
  }

  it.effect("before authentication a message of 8 KiB is read, and a larger one closes with 1009", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const { apiKey } = yield* server.newAgent
      const good = yield* connect(server.wsPort)
      good.send(auth(apiKey, 8_192))
      yield* good.expect("auth_success")
      const bad = yield* connect(server.wsPort)
      bad.send(auth(apiKey, 8_193))
      assert.strictEqual((yield* bad.closed).code, 1009)
      const second = yield* connect(server.wsPort)
      second.send({ type: "heartbeat", data: { timestamp: 1 } })
      yield* second.expect("error")
      second.send(auth(apiKey, 8_193))
      assert.strictEqual((yield* second.closed).code, 1009)
    }))

  it.effect("a message above the limit closes the connection before the message is complete", () =>
    Effect.gen(function*() {
      const { wsPort } = yield* TestServer
      const client = yield* connect(wsPort)
      // A text frame that announces 200,000 bytes, of which 9,000 are sent.
      const head = Buffer.from([0x81, 0xff, 0, 0, 0, 0, 0, 3, 0x0d, 0x40, 0, 0, 0, 0])
      socketOf(client).write(Buffer.concat([head, Buffer.alloc(9_000, "x")]))
      assert.strictEqual((yield* client.closed).code, 1009)
      const later = yield* connect(wsPort)
      later.send({ type: "heartbeat", data: { timestamp: 1 } })
      yield* later.expect("error")
      socketOf(later).write(Buffer.concat([head, Buffer.alloc(9_000, "x")]))
      assert.strictEqual((yield* later.closed).code, 1009, "also after a message other than auth")
    }))

  it.effect("a message sent right after auth may be larger", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const { apiKey } = yield* server.newAgent
      const client = yield* connect(server.wsPort)
      client.send({ type: "auth", data: { apiKey } })
      client.send({ type: "hello", data: { filler: "x".repeat(100_000) } })
      yield* client.expect("auth_success")
      yield* client.expect("config")
      assert.strictEqual((yield* client.expect("error")).data["code"], "unknown_type")
    }))
})

layer(TestServer.layer({ maxBytesPerSecond: 65_536 }), { excludeTestServices: true })("rate limit in bytes", (it) => {
  it.effect("a client above the rate limit is slowed but not closed, and delays no other client", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const [one, other] = yield* Effect.all([server.joinAgent, server.joinAgent])
      // The burst is 256 KiB, so the rest takes more than 1 s, independent of the load of this machine.
      const messages = 6
      const before = performance.now()
      for (let index = 0; index < messages; index += 1) {
        one.client.send({ type: `hello${index}`, data: { filler: "x".repeat(65_536) } })
      }
      other.client.send({ type: "hello", data: {} })
      yield* other.client.expect("error")
      for (let index = 0; index < messages; index += 1) {
        assert.include((yield* one.client.expect("error")).data["message"], `hello${index}`)
      }
      assert.isAbove(performance.now() - before, 1_000)
      assert.strictEqual(one.client.ws.readyState, one.client.ws.OPEN)
    }))

  it.effect("a slowed client is closed in time when its key is revoked", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const { apiKey, client, id } = yield* server.joinAgent
      for (let index = 0; index < 8; index += 1) {
        client.send({ type: "hello", data: { filler: "x".repeat(65_536) } })
      }
      yield* Effect.promise(() => server.operator.delete(`/api/agents/${id}/keys/${apiKey.split("_")[2]}`))
      assert.strictEqual((yield* client.closed).code, 4403)
    }))
})

/** TCP socket below a client's `ws`, to send bytes that `ws` would not send. */
function socketOf({ ws }: { readonly ws: object }): Socket {
  return (ws as { readonly _socket: Socket })._socket
}
