/** Heartbeat and authentication timeouts with a test clock, real sockets and a real database. */
import { stallAllowanceMillis } from "#clients/Heartbeat.ts"
import { ClientRegistry } from "#clients/ClientRegistry.ts"
import { monotonicMillis } from "#time/monotonic.ts"
import { TestServer } from "#support/TestServer.ts"
import { connect } from "#support/TestClient.ts"
import { assert, it, layer } from "@effect/vitest"
import { Context, Effect } from "effect"
import { TestClock } from "effect/testing"

/** One turn of the event loop, in which arrived messages are read. */
const turn = Effect.promise(() => new Promise<void>((done) => setImmediate(done)))

layer(TestServer.layer())("heartbeats", (it) => {
  it.effect("a client that is silent for more than 60 s is closed with 4408; any valid message resets the timeout", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const registry = Context.get(server.context, ClientRegistry)
      const [silent, beating, reporting] = yield* Effect.all([server.joinAgent, server.joinAgent, server.joinAgent])
      const lastSeen = (id: string) =>
        Effect.map(registry.newest, (clients) => {
          const client = clients.find(({ ref }) => ref.id === id)
          return client === undefined ? -1 : client.lastSeen.millis
        })
      for (let seconds = 0; seconds < 100; seconds += 10) {
        yield* TestClock.adjust("10 seconds")
        beating.client.send({ type: "heartbeat", data: { timestamp: seconds } })
        reporting.client.send({ type: "status", data: { tunnels: [] } })
        const now = yield* monotonicMillis
        for (const { id } of [beating, reporting]) {
          yield* Effect.repeat(Effect.andThen(turn, lastSeen(id)), { until: (seen) => seen === now })
        }
      }
      assert.strictEqual((yield* silent.client.closed).code, 4408)
      for (const { client } of [beating, reporting]) {
        client.send({ type: "hello", data: {} })
        yield* client.expect("error")
      }
    }))

  it.effect("a client that sends no auth within 10 s is closed with 4408", () =>
    Effect.gen(function*() {
      const { wsPort } = yield* TestServer
      const client = yield* connect(wsPort)
      client.send({ type: "hello", data: {} })
      yield* client.expect("error")
      yield* TestClock.adjust("9 seconds")
      yield* turn
      assert.strictEqual(client.ws.readyState, client.ws.OPEN)
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual((yield* client.closed).code, 4408)
    }))
})

it("a stall extends the heartbeat timeout by its length and 5 s; a delay of 1 s is no stall", () => {
  assert.deepStrictEqual([0, 1_000, 1_001, 30_000].map(stallAllowanceMillis), [0, 0, 6_001, 35_000])
})
