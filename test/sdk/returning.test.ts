/** How a client of control.v1 comes back, and when it does not. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { agentConfig, heartbeatAck, timeline, tunnelStep, welcome } from "./frames.ts"
import { client, held, joined, scripted } from "./scripted.ts"

describe("a client of control.v1 whose connection is lost", () => {
  it.effect("comes back from where it was, says how far it is, and is not made to apply anything twice", () =>
    Effect.gen(function*() {
      const { agent, peer, server } = yield* joined()
      peer.close(1012)
      assert.deepInclude(yield* agent.expect("disconnected"), { code: 1012, retryInMs: 500 })
      yield* TestClock.adjust(499)
      assert.strictEqual(server.connections(), 0)
      yield* TestClock.adjust(1)
      const again = yield* server.connection
      assert.deepStrictEqual((yield* again.expect("auth"))["resume"], { timeline, revision: 10 })
      again.say(welcome({ resumed: true }))
      assert.deepStrictEqual(yield* again.expect("ack"), { revision: 10 })
      again.say(tunnelStep("update", { id: "t1", revision: 15, previous: 10 }))
      assert.deepStrictEqual(yield* again.expect("ack"), { revision: 15 })
      assert.deepStrictEqual(agent.views.map(({ tunnels }) => tunnels.size), [1, 2])
    }))

  it.effect("a step that was refused is asked for again after a reconnect: it resumes from what is in force", () =>
    Effect.gen(function*() {
      let isBroken = false
      const { agent, peer, server } = yield* joined(() => {
        if (isBroken) throw new Error("no")
      })
      isBroken = true
      peer.say(tunnelStep("create", { id: "t1", revision: 11, previous: 10 }))
      assert.deepStrictEqual(yield* peer.expect("nack"), { revision: 11, code: "Error", message: "no" })
      isBroken = false
      peer.close(1011)
      yield* agent.lost
      yield* TestClock.adjust("1 second")
      const again = yield* server.connection
      assert.strictEqual((yield* again.expect("auth"))["resume"].revision, 10)
      again.say(welcome({ resumed: true }), tunnelStep("update", { id: "t1", revision: 11, previous: 10 }))
      assert.deepStrictEqual([yield* again.expect("ack"), yield* again.expect("ack")], [{ revision: 10 }, {
        revision: 11
      }])
    }))

  it.effect("heartbeats come at the interval that the server names", () =>
    Effect.gen(function*() {
      const { peer } = yield* joined()
      for (const _ of [1, 2, 3]) {
        yield* TestClock.adjust(19_999)
        assert.strictEqual(peer.waiting(), 0)
        yield* TestClock.adjust(1)
        assert.isNumber((yield* peer.expect("heartbeat"))["timestamp"])
        peer.say(heartbeatAck(10), tunnelStep("delete", { id: "t0", revision: 10, previous: 9 }), heartbeatAck(11))
        // Everything was read once this is answered.
        yield* peer.expect("resync")
      }
    }))

  it.effect("without any frame for two and a half intervals the connection is dead, and another is made", () =>
    Effect.gen(function*() {
      const { agent, peer, server } = yield* joined()
      yield* TestClock.adjust(49_999)
      assert.strictEqual(yield* Effect.map(peer.expect("heartbeat"), ({ timestamp }) => typeof timestamp), "number")
      yield* TestClock.adjust(1)
      assert.deepInclude(yield* agent.expect("disconnected"), { code: 1006, reason: "Control is silent" })
      yield* TestClock.adjust("1 second")
      yield* (yield* server.connection).expect("auth")
    }))

  it.effect("a drain's delay is obeyed to the millisecond", () =>
    Effect.gen(function*() {
      const { agent, peer, server } = yield* joined()
      peer.say({ type: "drain", data: { reconnectAfterMs: 7_777 } })
      peer.close(1012)
      assert.deepInclude(yield* agent.expect("disconnected"), { retryInMs: 7_777 })
      yield* TestClock.adjust(7_776)
      assert.strictEqual(server.connections(), 0)
      yield* TestClock.adjust(1)
      yield* (yield* server.connection).expect("auth")
    }))

  it.effect("after 4400, 4403, 4409 and 4410 it ends, and says why", () =>
    Effect.gen(function*() {
      for (const code of [4400, 4403, 4409, 4410]) {
        const { agent, peer } = yield* joined()
        peer.close(code)
        assert.deepStrictEqual(yield* Fiber.join(agent.fiber), { code, reason: "" })
        assert.deepInclude(yield* agent.expect("disconnected"), { code, retryInMs: null })
        yield* agent.expect("stopped")
      }
    }))

  it.effect("with a key that is not right it tries slowly, each time with the key that it has then", () =>
    Effect.gen(function*() {
      const server = yield* scripted()
      const keys = ["old", "new"]
      const agent = yield* client({ url: server.url, apiKey: () => keys.shift() ?? "none" })
      const peer = yield* server.connection
      assert.strictEqual((yield* peer.expect("auth"))["apiKey"], "old")
      peer.say({ type: "auth_error", data: { message: "Invalid API key" } })
      peer.close(4401)
      yield* agent.expect("connected")
      assert.deepInclude(yield* agent.expect("error"), { message: "Invalid API key" })
      assert.deepInclude(yield* agent.expect("disconnected"), { code: 4401, retryInMs: 180_000 })
      yield* TestClock.adjust("3 minutes")
      assert.strictEqual((yield* (yield* server.connection).expect("auth"))["apiKey"], "new")
    }))

  it.effect("a server without control.v1 is an end with a reason, a busy one is not", () =>
    Effect.gen(function*() {
      const none = yield* client({ url: (yield* scripted({ protocols: "none" })).url })
      assert.deepStrictEqual(yield* Fiber.join(none.fiber), {
        code: 1010,
        reason: "no control.v1: Server sent no subprotocol"
      })
      const refused = yield* client({ url: (yield* scripted({ refuse: () => ({ status: "400 Bad Request" }) })).url })
      assert.deepStrictEqual(yield* Fiber.join(refused.fiber), {
        code: 400,
        reason: "the upgrade was refused with HTTP 400: no such luck"
      })
      const refusals = [{ status: "503 Service Unavailable", headers: "Retry-After: 2\r\n" }]
      const server = yield* scripted({ refuse: () => refusals.shift() })
      const busy = yield* client({ url: server.url })
      assert.deepInclude(yield* busy.expect("disconnected"), { code: 503, retryInMs: 2_500 })
      yield* TestClock.adjust(2_500)
      yield* (yield* server.connection).expect("auth")
    }))

  it.effect("while nobody listens it tries again and again, later and later, up to a minute", () =>
    Effect.gen(function*() {
      const { port } = yield* Effect.scoped(scripted())
      const agent = yield* client({ url: `ws://127.0.0.1:${port}/` })
      const waits: Array<number | null> = []
      for (const _ of Array.from({ length: 8 })) {
        const { retryInMs } = yield* agent.expect("disconnected")
        waits.push(retryInMs)
        yield* TestClock.adjust(retryInMs ?? 0)
      }
      assert.deepStrictEqual(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000])
    }))

  it.effect("a config of another timeline replaces everything, and revisions of the old one are spoken of no more", () =>
    Effect.gen(function*() {
      const { apply, next } = held()
      const server = yield* scripted()
      const agent = yield* client({ url: server.url, apply })
      const peer = yield* server.connection
      yield* peer.expect("auth")
      peer.say(welcome({ resumed: false }), agentConfig({ revision: 10 }))
      const first = yield* next
      peer.close(1012)
      yield* agent.lost
      yield* TestClock.adjust("1 second")
      const again = yield* server.connection
      yield* again.expect("auth")
      again.say(
        welcome({ resumed: false, timeline: "restored" }),
        agentConfig({ revision: 3, timeline: "restored" }),
        heartbeatAck(4)
      )
      yield* again.expect("resync")
      first.done()
      const second = yield* next
      assert.deepStrictEqual(second.change, { from: "config", revision: 3, rows: [] })
      second.done()
      assert.deepStrictEqual(yield* again.expect("ack"), { revision: 3 })
    }))

  it.effect("stopped by its owner it closes with 1000 at once, and ends when a running apply has", () =>
    Effect.gen(function*() {
      const { apply, next } = held()
      const server = yield* scripted()
      const agent = yield* client({ url: server.url, apply })
      const peer = yield* server.connection
      yield* peer.expect("auth")
      peer.say(welcome({ resumed: false }), agentConfig({ revision: 10 }))
      const running = yield* next
      agent.engine.stop("closed")
      assert.strictEqual(yield* peer.closed, 1000)
      // More than the client's own end of the close takes.
      for (const _ of Array.from({ length: 100 })) {
        yield* Effect.promise(() => new Promise((next) => setImmediate(next)))
      }
      assert.isUndefined(agent.fiber.pollUnsafe())
      running.done()
      assert.deepStrictEqual(yield* Fiber.join(agent.fiber), { code: 1000, reason: "closed" })
    }))
})
