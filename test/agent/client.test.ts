import type { Apply } from "#agent/Applier.ts"
import type { Change } from "#agent/view.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { agentConfig, heartbeatAck, timeline, tunnelStep, welcome } from "./frames.ts"
import { client, scripted } from "./scripted.ts"

/** A client that is ready and has applied a config at revision 10. */
const joined = Effect.fnUntraced(function*(apply?: Apply) {
  const server = yield* scripted()
  const agent = yield* client({ url: `${server.url}?type=agent`, ...(apply === undefined ? {} : { apply }) })
  const peer = yield* server.connection
  const auth = yield* peer.expect("auth")
  peer.say(welcome({ resumed: false }), agentConfig({ revision: 10, tunnels: ["t0"] }))
  assert.deepStrictEqual(yield* peer.expect("ack"), { revision: 10 })
  yield* agent.expect("connected")
  yield* agent.expect("ready")
  yield* agent.expect("applied")
  return { server, agent, peer, auth }
})

/** `apply` that goes on only when it is told to. */
const held = () => {
  const calls: Array<{ readonly change: Change; readonly done: () => void; readonly fail: (error: unknown) => void }> =
    []
  let called = Promise.withResolvers<void>()
  let running = 0
  const apply: Apply = (_view, change) => {
    assert.strictEqual(running, 0, "two at once")
    running += 1
    const { promise, reject, resolve } = Promise.withResolvers<void>()
    calls.push({ change, done: resolve, fail: reject })
    called.resolve()
    return promise.finally(() => running -= 1)
  }
  const next = Effect.promise(async () => {
    while (calls.length === 0) await called.promise
    called = Promise.withResolvers<void>()
    return calls.shift() ?? assert.fail()
  })
  return { apply, next, waiting: () => calls.length }
}

describe("a client of control.v1", () => {
  it.effect("offers control.v1, authenticates first, applies its config and acknowledges it", () =>
    Effect.gen(function*() {
      const { agent, auth, peer } = yield* joined()
      assert.strictEqual(peer.request.headers["sec-websocket-protocol"], "control.v1")
      assert.strictEqual(peer.request.url, "/?type=agent")
      assert.deepStrictEqual(auth, { apiKey: "key" })
      assert.deepStrictEqual([...agent.views[0]?.tunnels.keys() ?? []], ["t0"])
      peer.say(tunnelStep("create", { id: "t1", revision: 12, previous: 10 }))
      assert.deepStrictEqual(yield* peer.expect("ack"), { revision: 12 })
      const { change } = yield* agent.expect("applied")
      assert.deepStrictEqual(change, {
        from: "steps",
        revision: 12,
        rows: [{ table: "tunnels", key: "t1", kind: "put" }]
      })
    }))

  it.effect("what comes while a view is being applied is merged: the next call gets the newest, and one ack tells of all", () =>
    Effect.gen(function*() {
      const { apply, next, waiting } = held()
      const server = yield* scripted()
      yield* client({ url: server.url, apply })
      const peer = yield* server.connection
      yield* peer.expect("auth")
      peer.say(welcome({ resumed: false }), agentConfig({ revision: 10 }))
      const first = yield* next
      peer.say(
        tunnelStep("create", { id: "t1", revision: 11, previous: 10 }),
        tunnelStep("create", { id: "t2", revision: 12, previous: 11 }),
        tunnelStep("delete", { id: "t1", revision: 13, previous: 12 }),
        heartbeatAck(14)
      )
      // The resync shows that everything before it was read.
      yield* peer.expect("resync")
      assert.strictEqual(waiting(), 0)
      first.done()
      assert.deepStrictEqual(yield* peer.expect("ack"), { revision: 10 })
      const second = yield* next
      assert.deepStrictEqual(second.change, {
        from: "steps",
        revision: 13,
        rows: [{ table: "tunnels", key: "t1", kind: "deleted" }, { table: "tunnels", key: "t2", kind: "put" }]
      })
      second.done()
      assert.deepStrictEqual(yield* peer.expect("ack"), { revision: 13 })
      assert.strictEqual(waiting(), 0)
    }))

  it.effect("what cannot be applied is refused with the error's own words, and its changes come again with the next", () =>
    Effect.gen(function*() {
      const { apply, next } = held()
      const { peer } = yield* Effect.map(
        Effect.all([joined(apply), Effect.flatMap(next, ({ done }) => Effect.sync(done))], { concurrency: 2 }),
        ([all]) => all
      )
      peer.say(tunnelStep("create", { id: "t1", revision: 11, previous: 10 }))
      const failing = yield* next
      failing.fail(Object.assign(new Error("localhost:8080 is taken"), { code: "port_in_use", tunnelId: "t1" }))
      assert.deepStrictEqual(yield* peer.expect("nack"), {
        revision: 11,
        code: "port_in_use",
        message: "localhost:8080 is taken",
        tunnelId: "t1"
      })
      peer.say(tunnelStep("create", { id: "t2", revision: 12, previous: 11 }))
      const better = yield* next
      assert.deepStrictEqual(better.change.rows.map(({ key }) => key), ["t1", "t2"])
      better.done()
      assert.deepStrictEqual(yield* peer.expect("ack"), { revision: 12 })
    }))

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
      const { peer, server } = yield* joined(() => {
        if (isBroken) throw new Error("no")
      })
      isBroken = true
      peer.say(tunnelStep("create", { id: "t1", revision: 11, previous: 10 }))
      assert.deepStrictEqual(yield* peer.expect("nack"), { revision: 11, code: "Error", message: "no" })
      isBroken = false
      peer.close(1011)
      yield* peer.closed
      yield* TestClock.adjust("1 second")
      const again = yield* server.connection
      assert.strictEqual((yield* again.expect("auth"))["resume"].revision, 10)
      again.say(welcome({ resumed: true }), tunnelStep("update", { id: "t1", revision: 11, previous: 10 }))
      assert.deepStrictEqual([yield* again.expect("ack"), yield* again.expect("ack")], [{ revision: 10 }, {
        revision: 11
      }])
    }))

  it.effect("repeated steps are ignored, a missing one is answered with one resync, and a config heals", () =>
    Effect.gen(function*() {
      const { agent, peer } = yield* joined()
      peer.say(
        tunnelStep("create", { id: "t9", revision: 10, previous: 9 }),
        tunnelStep("create", { id: "t2", revision: 12, previous: 11 }),
        tunnelStep("create", { id: "t3", revision: 13, previous: 12 }),
        heartbeatAck(13)
      )
      yield* peer.expect("resync")
      peer.say(agentConfig({ revision: 13, tunnels: ["t1", "t2", "t3"] }), heartbeatAck(13))
      assert.deepStrictEqual(yield* peer.expect("ack"), { revision: 13 })
      assert.deepStrictEqual(agent.views.map(({ tunnels }) => [...tunnels.keys()]), [["t0"], ["t1", "t2", "t3"]])
      assert.strictEqual(peer.waiting(), 0)
    }))

  it.effect("a heartbeat_ack that is ahead is answered with resync, at most once in five seconds", () =>
    Effect.gen(function*() {
      const { peer } = yield* joined()
      peer.say(heartbeatAck(10), heartbeatAck(11), heartbeatAck(11))
      yield* peer.expect("resync")
      yield* TestClock.adjust("6 seconds")
      peer.say(heartbeatAck(11))
      yield* peer.expect("resync")
      assert.strictEqual(peer.waiting(), 0)
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

  it.effect("unknown messages, unknown fields and nonsense are passed over", () =>
    Effect.gen(function*() {
      const { agent, peer } = yield* joined()
      const step = tunnelStep("create", { id: "t1", revision: 11, previous: 10 })
      peer.say(
        "{",
        "[]",
        "null",
        "\"config\"",
        { type: "weather", revision: 99, data: {} },
        { type: "moon_update", revision: 99, previous: 98, data: { id: "x" } },
        { ...step, more: { deep: 1 }, data: { ...step.data, colour: "red" } }
      )
      assert.deepStrictEqual(yield* peer.expect("ack"), { revision: 11 })
      assert.deepStrictEqual(agent.views[1]?.tunnels.get("t1"), step.data)
    }))

  it.effect("a step that cannot be read is refused, so that operators hear of it, and a config heals", () =>
    Effect.gen(function*() {
      const { peer } = yield* joined()
      peer.say({ ...tunnelStep("create", { id: "t1", revision: 11, previous: 10 }), data: { id: "t1", domain: 5 } })
      assert.deepInclude(yield* peer.expect("nack"), { revision: 11, code: "unreadable" })
      peer.say(tunnelStep("create", { id: "t2", revision: 12, previous: 11 }))
      yield* peer.expect("resync")
      peer.say(agentConfig({ revision: 12 }))
      assert.deepStrictEqual(yield* peer.expect("ack"), { revision: 12 })
    }))

  it.effect("a config of another timeline replaces everything, and revisions of the old one are spoken of no more", () =>
    Effect.gen(function*() {
      const { apply, next } = held()
      const server = yield* scripted()
      yield* client({ url: server.url, apply })
      const peer = yield* server.connection
      yield* peer.expect("auth")
      peer.say(welcome({ resumed: false }), agentConfig({ revision: 10 }))
      const first = yield* next
      peer.close(1012)
      yield* peer.closed
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
      assert.isUndefined(agent.fiber.pollUnsafe())
      running.done()
      assert.deepStrictEqual(yield* Fiber.join(agent.fiber), { code: 1000, reason: "closed" })
    }))
})
