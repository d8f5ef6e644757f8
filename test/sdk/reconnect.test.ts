/** Reconnecting of a client of control.v1, and the close codes after which it stops. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { agentConfig, authSuccess, heartbeatAck, timeline, tunnelDelta } from "./serverFrames.ts"
import { client, connectedClient, controlledApply, scriptedServer } from "./scriptedServer.ts"

describe("a client of control.v1 whose connection is lost", () => {
  it.effect("a client resumes from its revision, acknowledges it, and applies nothing twice", () =>
    Effect.gen(function*() {
      const { agent, peer, server } = yield* connectedClient()
      peer.close(1012)
      assert.deepInclude(yield* agent.expect("disconnected"), { code: 1012, retryInMs: 500 })
      yield* TestClock.adjust(499)
      assert.strictEqual(server.connections(), 0)
      yield* TestClock.adjust(1)
      const again = yield* server.connection
      assert.deepStrictEqual((yield* again.expect("auth"))["resume"], { timeline, revision: 10 })
      again.send(authSuccess({ resumed: true }))
      assert.deepStrictEqual(yield* again.expect("ack"), { revision: 10 })
      again.send(tunnelDelta("update", { id: "t1", revision: 15, previous: 10 }))
      assert.deepStrictEqual(yield* again.expect("ack"), { revision: 15 })
      assert.deepStrictEqual(agent.views.map(({ tunnels }) => tunnels.size), [1, 2])
    }))

  it.effect("a client resumes from the applied revision, so that a rejected delta is sent again", () =>
    Effect.gen(function*() {
      let isBroken = false
      const { agent, peer, server } = yield* connectedClient(() => {
        if (isBroken) throw new Error("no")
      })
      isBroken = true
      peer.send(tunnelDelta("create", { id: "t1", revision: 11, previous: 10 }))
      assert.deepStrictEqual(yield* peer.expect("nack"), { revision: 11, code: "Error", message: "no" })
      isBroken = false
      peer.close(1011)
      yield* agent.disconnected
      yield* TestClock.adjust("1 second")
      const again = yield* server.connection
      assert.strictEqual((yield* again.expect("auth"))["resume"].revision, 10)
      again.send(authSuccess({ resumed: true }), tunnelDelta("update", { id: "t1", revision: 11, previous: 10 }))
      assert.deepStrictEqual([yield* again.expect("ack"), yield* again.expect("ack")], [{ revision: 10 }, {
        revision: 11
      }])
    }))

  it.effect("a client sends heartbeats at the interval in auth_success", () =>
    Effect.gen(function*() {
      const { peer } = yield* connectedClient()
      for (const _ of [1, 2, 3]) {
        yield* TestClock.adjust(19_999)
        assert.strictEqual(peer.unread(), 0)
        yield* TestClock.adjust(1)
        assert.isNumber((yield* peer.expect("heartbeat"))["timestamp"])
        peer.send(heartbeatAck(10), tunnelDelta("delete", { id: "t0", revision: 10, previous: 9 }), heartbeatAck(11))
        // The resync shows that the client has read every message before it.
        yield* peer.expect("resync")
      }
    }))

  it.effect("a client reconnects after 2.5 heartbeat intervals without a frame", () =>
    Effect.gen(function*() {
      const { agent, peer, server } = yield* connectedClient()
      yield* TestClock.adjust(49_999)
      assert.strictEqual(yield* Effect.map(peer.expect("heartbeat"), ({ timestamp }) => typeof timestamp), "number")
      yield* TestClock.adjust(1)
      assert.deepInclude(yield* agent.expect("disconnected"), { code: 1006, reason: "Control is silent" })
      yield* TestClock.adjust("1 second")
      yield* (yield* server.connection).expect("auth")
    }))

  it.effect("a client follows the delay of a drain to the millisecond", () =>
    Effect.gen(function*() {
      const { agent, peer, server } = yield* connectedClient()
      peer.send({ type: "drain", data: { reconnectAfterMs: 7_777 } })
      peer.close(1012)
      assert.deepInclude(yield* agent.expect("disconnected"), { retryInMs: 7_777 })
      yield* TestClock.adjust(7_776)
      assert.strictEqual(server.connections(), 0)
      yield* TestClock.adjust(1)
      yield* (yield* server.connection).expect("auth")
    }))

  it.effect("a client stops with the close code after 4400, 4403, 4409 and 4410", () =>
    Effect.gen(function*() {
      for (const code of [4400, 4403, 4409, 4410]) {
        const { agent, peer } = yield* connectedClient()
        peer.close(code)
        const stopped = yield* Fiber.join(agent.fiber)
        assert.strictEqual(stopped.code, code)
        assert.match(stopped.reason, /^\w/u, "a sentence, although the close has no reason")
        assert.deepInclude(yield* agent.expect("disconnected"), { code, retryInMs: null })
        yield* agent.expect("stopped")
      }
    }))

  it.effect("a client stops after an invalid API key, and says so", () =>
    Effect.gen(function*() {
      const server = yield* scriptedServer()
      const agent = yield* client({ url: server.url })
      const peer = yield* server.connection
      yield* peer.expect("auth")
      peer.send({ type: "auth_error", data: { message: "Invalid API key" } })
      peer.close(4401)
      const { code, reason } = yield* Fiber.join(agent.fiber)
      assert.strictEqual(code, 4401)
      assert.match(reason, /rejected the API key: it is unknown or revoked/u)
      yield* agent.expect("connected")
      yield* agent.expect("error")
      assert.deepInclude(yield* agent.expect("disconnected"), { code: 4401, problem: "key-rejected", retryInMs: null })
      yield* agent.expect("stopped")
    }))

  it.effect("with retryAuth a client retries slowly after an invalid API key, and reads the key for each attempt", () =>
    Effect.gen(function*() {
      const server = yield* scriptedServer()
      const keys = ["old", "new"]
      const agent = yield* client({ url: server.url, retryAuth: true, apiKey: () => keys.shift() ?? "none" })
      const peer = yield* server.connection
      assert.strictEqual((yield* peer.expect("auth"))["apiKey"], "old")
      peer.send({ type: "auth_error", data: { message: "Invalid API key" } })
      peer.close(4401)
      yield* agent.expect("connected")
      assert.deepInclude(yield* agent.expect("error"), { message: "Invalid API key" })
      assert.deepInclude(yield* agent.expect("disconnected"), { code: 4401, retryInMs: 180_000 })
      yield* TestClock.adjust("3 minutes")
      assert.strictEqual((yield* (yield* server.connection).expect("auth"))["apiKey"], "new")
    }))

  it.effect("a client above its session limit waits for the time that the server names", () =>
    Effect.gen(function*() {
      const server = yield* scriptedServer()
      const agent = yield* client({ url: server.url })
      const peer = yield* server.connection
      yield* peer.expect("auth")
      peer.send({
        type: "auth_error",
        data: { message: "Too many sessions", code: "rate_limited", retryAfterMs: 90_000 }
      })
      peer.close(4429)
      yield* agent.expect("connected")
      yield* agent.expect("error")
      // Half of the jitter of 10 s is added.
      assert.deepInclude(yield* agent.expect("disconnected"), { code: 4429, retryInMs: 95_000 })
    }))

  it.effect("a client stops if the server does not support control.v1, and retries if the server is busy", () =>
    Effect.gen(function*() {
      const plainServerClient = yield* client({ url: (yield* scriptedServer({ protocols: "none" })).url })
      const stopped = yield* Fiber.join(plainServerClient.fiber)
      assert.strictEqual(stopped.code, 1010)
      assert.match(stopped.reason, /^the server on 127\.0\.0\.1:\d+ does not speak control\.v1/u)
      const rejected = yield* client({
        url: (yield* scriptedServer({ rejectUpgrade: () => ({ status: "400 Bad Request" }) })).url
      })
      assert.deepStrictEqual(yield* Fiber.join(rejected.fiber), {
        code: 400,
        reason: "the upgrade was rejected with HTTP 400: no such luck"
      })
      const rejections = [{ status: "503 Service Unavailable", headers: "Retry-After: 2\r\n" }]
      const server = yield* scriptedServer({ rejectUpgrade: () => rejections.shift() })
      const busy = yield* client({ url: server.url })
      assert.deepInclude(yield* busy.expect("disconnected"), { code: 503, retryInMs: 2_500 })
      yield* TestClock.adjust(2_500)
      yield* (yield* server.connection).expect("auth")
    }))

  it.effect("a client retries with growing delays up to 1 minute while the port is closed", () =>
    Effect.gen(function*() {
      const { port } = yield* Effect.scoped(scriptedServer())
      const agent = yield* client({ url: `ws://127.0.0.1:${port}/` })
      const waits: Array<number | null> = []
      for (const _ of Array.from({ length: 8 })) {
        const { retryInMs } = yield* agent.expect("disconnected")
        waits.push(retryInMs)
        yield* TestClock.adjust(retryInMs ?? 0)
      }
      assert.deepStrictEqual(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000])
    }))

  it.effect("a client replaces its view by a config of another timeline, and no longer acknowledges the old timeline", () =>
    Effect.gen(function*() {
      const { apply, next } = controlledApply()
      const server = yield* scriptedServer()
      const agent = yield* client({ url: server.url, apply })
      const peer = yield* server.connection
      yield* peer.expect("auth")
      peer.send(authSuccess({ resumed: false }), agentConfig({ revision: 10 }))
      const first = yield* next
      peer.close(1012)
      yield* agent.disconnected
      yield* TestClock.adjust("1 second")
      const again = yield* server.connection
      yield* again.expect("auth")
      again.send(
        authSuccess({ resumed: false, timeline: "restored" }),
        agentConfig({ revision: 3, timeline: "restored" }),
        heartbeatAck(4)
      )
      yield* again.expect("resync")
      first.done()
      const second = yield* next
      assert.deepStrictEqual(second.change, { source: "config", revision: 3, rows: [] })
      second.done()
      assert.deepStrictEqual(yield* again.expect("ack"), { revision: 3 })
    }))

  it.effect("a client closes with 1000 when stopped, and ends after the running apply", () =>
    Effect.gen(function*() {
      const { apply, next } = controlledApply()
      const server = yield* scriptedServer()
      const agent = yield* client({ url: server.url, apply })
      const peer = yield* server.connection
      yield* peer.expect("auth")
      peer.send(authSuccess({ resumed: false }), agentConfig({ revision: 10 }))
      const running = yield* next
      agent.engine.stop("closed")
      assert.strictEqual(yield* peer.closed, 1000)
      // Longer than the close handshake takes.
      for (const _ of Array.from({ length: 100 })) {
        yield* Effect.promise(() => new Promise((next) => setImmediate(next)))
      }
      assert.isUndefined(agent.fiber.pollUnsafe())
      running.done()
      assert.deepStrictEqual(yield* Fiber.join(agent.fiber), { code: 1000, reason: "closed" })
    }))
})
