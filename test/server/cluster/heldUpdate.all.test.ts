/** The loss guard holds an update back and an operator accepts it, with two servers on one database. */
import { join, joinV1 } from "#support/TestClient.ts"
import { newTimeline, pastTriggers, runSql } from "#support/lostRows.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import {
  accept,
  catchUp,
  closeCodeOf,
  heldAt,
  lossesOf,
  nextConfig,
  tunnelCount,
  twoNodes,
  untilHeld,
  untilReleased
} from "./lossNodes.ts"

describe("a mass loss at two nodes", () => {
  it.live(
    "a mass loss is held back by the node that restarts, and accepted for both nodes at once",
    () =>
      Effect.gen(function*() {
        const { agent, gateway, agentClient, one, other, url } = yield* twoNodes()
        yield* runSql(url, pastTriggers, "delete from tunnels")
        yield* other.stop
        yield* other.start
        const { losses, timeline } = yield* untilHeld(other.server())
        assert.deepStrictEqual(losses, lossesOf(tunnelCount))
        assert.strictEqual(yield* closeCodeOf(other.server(), "agent", agent.apiKey), 1013)
        // The other node has not reloaded: it still has the lost rows, and applies new changes.
        yield* one.newTunnel(agent.id)
        yield* agentClient.expect("tunnel_create")
        assert.isNull(yield* heldAt(one))
        assert.strictEqual((yield* accept(other.server(), timeline)).status, 200)
        assert.lengthOf((yield* nextConfig(agentClient)).data["tunnels"], 1)
        const gatewayAfter = yield* join(other.server().wsPort, "gateway", gateway.apiKey)
        assert.lengthOf(gatewayAfter.config.data["tunnels"], 1)
      }),
    60_000
  )

  it.live(
    "a mass loss can be accepted at any node, also at a node that has not detected the loss",
    () =>
      Effect.gen(function*() {
        const { agentClient, one, other, url } = yield* twoNodes()
        yield* runSql(url, pastTriggers, "delete from tunnels")
        yield* other.stop
        yield* other.start
        const { timeline } = yield* untilHeld(other.server())
        assert.strictEqual((yield* accept(one, timeline)).status, 200)
        assert.lengthOf((yield* nextConfig(agentClient)).data["tunnels"], 0)
        yield* untilReleased(other.server())
        assert.strictEqual((yield* accept(one, timeline)).status, 409, "the loss was accepted already")
      }),
    60_000
  )

  it.live(
    "a mass loss is accepted once when both nodes accept it at the same moment, and each client gets one config",
    () =>
      Effect.gen(function*() {
        const { gateway, agentClient, one, other, url } = yield* twoNodes()
        const gatewayClient = yield* joinV1(other.server().wsPort, "gateway", gateway.apiKey)
        yield* gatewayClient.expect("config")
        yield* runSql(url, pastTriggers, "delete from tunnels", newTimeline)
        const nodes = [one, other.server()]
        const [first, second] = yield* Effect.forEach(nodes, untilHeld)
        assert.deepStrictEqual(first.losses, second.losses)
        const answers = yield* Effect.forEach(nodes, (server) => accept(server, first.timeline), {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual(answers.map(({ status, body }) => [status, body.held]), [[200, null], [200, null]])
        for (const client of [agentClient, gatewayClient]) {
          assert.lengthOf((yield* nextConfig(client)).data["tunnels"], 0)
        }
        const { body } = yield* Effect.promise(() => one.operator.get("/api/audit?entityType=network"))
        assert.lengthOf(body.items, 1)
        // Further reads of the database cause no second config.
        for (const server of nodes) yield* Effect.andThen(catchUp(server), catchUp(server))
        const agent = yield* one.newAgent
        yield* one.newTunnel(agent.id)
        yield* gatewayClient.expect("agent_create")
        yield* gatewayClient.expect("tunnel_create")
        assert.strictEqual(agentClient.unread(), 0)
      }),
    60_000
  )

  it.live(
    "a mass loss is accepted at once by a node that starts while the other node accepts it",
    () =>
      Effect.gen(function*() {
        const { gateway, agentClient, one, other, url } = yield* twoNodes()
        yield* runSql(url, pastTriggers, "delete from tunnels", newTimeline)
        const { timeline } = yield* untilHeld(one)
        yield* other.stop
        const [accepted] = yield* Effect.all([accept(one, timeline), other.start], { concurrency: "unbounded" })
        assert.strictEqual(accepted.status, 200)
        yield* untilReleased(other.server())
        const connected = yield* join(other.server().wsPort, "gateway", gateway.apiKey)
        assert.lengthOf(connected.config.data["tunnels"], 0)
        assert.lengthOf((yield* nextConfig(agentClient)).data["tunnels"], 0)
      }),
    60_000
  )

  it.live(
    "a mass loss is held back at a start without a high-water mark, by comparison with the audit log",
    () =>
      Effect.gen(function*() {
        const { agent, one, other, url } = yield* twoNodes(false)
        yield* runSql(url, pastTriggers, "delete from tunnels")
        yield* other.stop
        yield* other.start
        const { losses, timeline } = yield* untilHeld(other.server())
        assert.deepStrictEqual(losses, lossesOf(tunnelCount))
        assert.strictEqual(yield* closeCodeOf(other.server(), "agent", agent.apiKey), 1013)
        assert.strictEqual((yield* accept(one, timeline)).status, 200)
        yield* untilReleased(other.server())
        // The next start does not ask about the accepted loss again, but about a later loss.
        yield* Effect.forEach(Array.from({ length: tunnelCount }), () => one.newTunnel(agent.id))
        yield* other.stop
        yield* other.start
        assert.isNull(yield* heldAt(other.server()))
        yield* runSql(url, pastTriggers, "delete from tunnels")
        yield* other.stop
        yield* other.start
        assert.deepStrictEqual((yield* untilHeld(other.server())).losses, lossesOf(tunnelCount))
      }),
    60_000
  )

  it.live(
    "a mass loss is held back again when the same number of rows is lost a second time, by running and by starting nodes",
    () =>
      Effect.gen(function*() {
        const { agent, agentClient, one, other, url } = yield* twoNodes()
        yield* runSql(url, pastTriggers, "delete from tunnels", newTimeline)
        yield* accept(one, (yield* untilHeld(one)).timeline)
        yield* untilReleased(other.server())
        assert.lengthOf((yield* nextConfig(agentClient)).data["tunnels"], 0)
        yield* Effect.forEach(Array.from({ length: tunnelCount }), () => one.newTunnel(agent.id))
        yield* catchUp(one)
        yield* catchUp(other.server())
        yield* runSql(url, pastTriggers, "delete from tunnels")
        yield* other.stop
        yield* other.start
        assert.deepStrictEqual((yield* untilHeld(other.server())).losses, lossesOf(tunnelCount))
        yield* runSql(url, newTimeline)
        assert.deepStrictEqual((yield* untilHeld(one)).losses, lossesOf(tunnelCount))
        assert.strictEqual(agentClient.unread(), tunnelCount, "the client got the new tunnels and nothing after them")
      }),
    60_000
  )
})
