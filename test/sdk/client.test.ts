/** Messages that a client of control.v1 sends while it is connected. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { agentConfig, authSuccess, heartbeatAck, tunnelDelta } from "./serverFrames.ts"
import { client, connectedClient, controlledApply, scriptedServer } from "./scriptedServer.ts"

describe("a client of control.v1", () => {
  it.effect("a client offers control.v1, authenticates first, applies its config and acknowledges it", () =>
    Effect.gen(function*() {
      const { agent, auth, peer } = yield* connectedClient()
      assert.strictEqual(peer.request.headers["sec-websocket-protocol"], "control.v1")
      assert.strictEqual(peer.request.url, "/?type=agent")
      assert.deepStrictEqual(auth, { apiKey: "key" })
      assert.deepStrictEqual([...agent.views[0]?.tunnels.keys() ?? []], ["t0"])
      peer.send(tunnelDelta("create", { id: "t1", revision: 12, previous: 10 }))
      assert.deepStrictEqual(yield* peer.expect("ack"), { revision: 12 })
      const { change } = yield* agent.expect("applied")
      assert.deepStrictEqual(change, {
        source: "deltas",
        revision: 12,
        rows: [{ table: "tunnels", key: "t1", kind: "put" }]
      })
    }))

  it.effect("a client merges the deltas that arrive during an apply, and sends one ack for all of them", () =>
    Effect.gen(function*() {
      const { apply, next, pendingCalls } = controlledApply()
      const server = yield* scriptedServer()
      yield* client({ url: server.url, apply })
      const peer = yield* server.connection
      yield* peer.expect("auth")
      peer.send(authSuccess({ resumed: false }), agentConfig({ revision: 10 }))
      const first = yield* next
      peer.send(
        tunnelDelta("create", { id: "t1", revision: 11, previous: 10 }),
        tunnelDelta("create", { id: "t2", revision: 12, previous: 11 }),
        tunnelDelta("delete", { id: "t1", revision: 13, previous: 12 }),
        heartbeatAck(14)
      )
      // The resync shows that the client has read every message before it.
      yield* peer.expect("resync")
      assert.strictEqual(pendingCalls(), 0)
      first.done()
      assert.deepStrictEqual(yield* peer.expect("ack"), { revision: 10 })
      const second = yield* next
      assert.deepStrictEqual(second.change, {
        source: "deltas",
        revision: 13,
        rows: [{ table: "tunnels", key: "t1", kind: "deleted" }, { table: "tunnels", key: "t2", kind: "put" }]
      })
      second.done()
      assert.deepStrictEqual(yield* peer.expect("ack"), { revision: 13 })
      assert.strictEqual(pendingCalls(), 0)
    }))

  it.effect("a client rejects a revision with the code and message of the thrown error, and includes its changes in the next apply", () =>
    Effect.gen(function*() {
      const { apply, next } = controlledApply()
      const { peer } = yield* Effect.map(
        Effect.all([connectedClient(apply), Effect.flatMap(next, ({ done }) => Effect.sync(done))], { concurrency: 2 }),
        ([all]) => all
      )
      peer.send(tunnelDelta("create", { id: "t1", revision: 11, previous: 10 }))
      const failing = yield* next
      failing.fail(Object.assign(new Error("localhost:8080 is taken"), { code: "port_in_use", tunnelId: "t1" }))
      assert.deepStrictEqual(yield* peer.expect("nack"), {
        revision: 11,
        code: "port_in_use",
        message: "localhost:8080 is taken",
        tunnelId: "t1"
      })
      peer.send(tunnelDelta("create", { id: "t2", revision: 12, previous: 11 }))
      const retried = yield* next
      assert.deepStrictEqual(retried.change.rows.map(({ key }) => key), ["t1", "t2"])
      retried.done()
      assert.deepStrictEqual(yield* peer.expect("ack"), { revision: 12 })
    }))

  it.effect("a client ignores duplicate deltas, requests one resync for a missing delta, and continues from the next config", () =>
    Effect.gen(function*() {
      const { agent, peer } = yield* connectedClient()
      peer.send(
        tunnelDelta("create", { id: "t9", revision: 10, previous: 9 }),
        tunnelDelta("create", { id: "t2", revision: 12, previous: 11 }),
        tunnelDelta("create", { id: "t3", revision: 13, previous: 12 }),
        heartbeatAck(13)
      )
      yield* peer.expect("resync")
      peer.send(agentConfig({ revision: 13, tunnels: ["t1", "t2", "t3"] }), heartbeatAck(13))
      assert.deepStrictEqual(yield* peer.expect("ack"), { revision: 13 })
      assert.deepStrictEqual(agent.views.map(({ tunnels }) => [...tunnels.keys()]), [["t0"], ["t1", "t2", "t3"]])
      assert.strictEqual(peer.unread(), 0)
    }))

  it.effect("a client requests a resync if a heartbeat_ack is ahead of its revision, at most once in 5 s", () =>
    Effect.gen(function*() {
      const { peer } = yield* connectedClient()
      peer.send(heartbeatAck(10), heartbeatAck(11), heartbeatAck(11))
      yield* peer.expect("resync")
      yield* TestClock.adjust("6 seconds")
      peer.send(heartbeatAck(11))
      yield* peer.expect("resync")
      assert.strictEqual(peer.unread(), 0)
    }))

  it.effect("a client ignores unknown messages, unknown fields and invalid JSON", () =>
    Effect.gen(function*() {
      const { agent, peer } = yield* connectedClient()
      const delta = tunnelDelta("create", { id: "t1", revision: 11, previous: 10 })
      peer.send(
        "{",
        "[]",
        "null",
        "\"config\"",
        { type: "weather", revision: 99, data: {} },
        { type: "moon_update", revision: 99, previous: 98, data: { id: "x" } },
        { ...delta, more: { deep: 1 }, data: { ...delta.data, colour: "red" } }
      )
      assert.deepStrictEqual(yield* peer.expect("ack"), { revision: 11 })
      assert.deepStrictEqual(agent.views[1]?.tunnels.get("t1"), delta.data)
    }))

  it.effect("a client of a server that sends no port yet gets the defaults", () =>
    Effect.gen(function*() {
      const { agent, peer } = yield* connectedClient()
      const old = { id: "t1", domain: "t1.example.com", target: "localhost:8080", enabled: true }
      peer.send({ type: "tunnel_create", revision: 11, previous: 10, data: old })
      assert.deepStrictEqual(yield* peer.expect("ack"), { revision: 11 })
      assert.deepInclude(agent.views[1]?.tunnels.get("t1"), { domain: old.domain, protocol: "http", port: 0 })
    }))

  it.effect("a client rejects a delta that it cannot decode, and continues from the next config", () =>
    Effect.gen(function*() {
      const { peer } = yield* connectedClient()
      peer.send({ ...tunnelDelta("create", { id: "t1", revision: 11, previous: 10 }), data: { id: "t1", domain: 5 } })
      assert.deepInclude(yield* peer.expect("nack"), { revision: 11, code: "unreadable" })
      peer.send(tunnelDelta("create", { id: "t2", revision: 12, previous: 11 }))
      yield* peer.expect("resync")
      peer.send(agentConfig({ revision: 12 }))
      assert.deepStrictEqual(yield* peer.expect("ack"), { revision: 12 })
    }))
})
