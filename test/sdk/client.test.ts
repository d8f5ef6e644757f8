/** What a client of control.v1 does while it is connected. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { agentConfig, heartbeatAck, tunnelStep, welcome } from "./frames.ts"
import { client, held, joined, scripted } from "./scripted.ts"

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
})
