/** README, "One node or several": a loss that is held back and accepted, at two whole servers on one database. */
import { join, joinV1 } from "#support/TestClient.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import {
  accept,
  heldAt,
  known,
  lossesOf,
  many,
  nextConfig,
  refusedAt,
  renamed,
  twoNodes,
  unseen,
  untilGiven,
  untilHeld,
  written
} from "./losing.ts"

describe("what is missing and was not deleted, at two nodes", () => {
  it.live(
    "is held back by the one that is restarted, while the other goes on with what it knows, and accepted for both at once",
    () =>
      Effect.gen(function*() {
        const { agent, gateway, ofAgent, one, other, url } = yield* twoNodes()
        yield* written(url, unseen, "delete from tunnels")
        yield* other.stop
        yield* other.start
        const { losses, timeline } = yield* untilHeld(other.server())
        assert.deepStrictEqual(losses, lossesOf(many))
        assert.strictEqual(yield* refusedAt(other.server(), "agent", agent.apiKey), 1013)
        // The other one has not read everything anew: it knows more than the database has, and takes what changes.
        yield* one.newTunnel(agent.id)
        yield* ofAgent.expect("tunnel_create")
        assert.isNull(yield* heldAt(one))
        assert.strictEqual((yield* accept(other.server(), timeline)).status, 200)
        assert.lengthOf((yield* nextConfig(ofAgent)).data["tunnels"], 1)
        const late = yield* join(other.server().wsPort, "gateway", gateway.apiKey)
        assert.lengthOf(late.config.data["tunnels"], 1)
      }),
    60_000
  )

  it.live(
    "is accepted at whichever node is asked, also at one that has not noticed",
    () =>
      Effect.gen(function*() {
        const { ofAgent, one, other, url } = yield* twoNodes()
        yield* written(url, unseen, "delete from tunnels")
        yield* other.stop
        yield* other.start
        const { timeline } = yield* untilHeld(other.server())
        assert.strictEqual((yield* accept(one, timeline)).status, 200)
        assert.lengthOf((yield* nextConfig(ofAgent)).data["tunnels"], 0)
        yield* untilGiven(other.server())
        assert.strictEqual((yield* accept(one, timeline)).status, 409, "there is nothing more to accept")
      }),
    60_000
  )

  it.live(
    "is accepted once when it is accepted at both in the same moment, and each client gets one config",
    () =>
      Effect.gen(function*() {
        const { gateway, ofAgent, one, other, url } = yield* twoNodes()
        const ofGateway = yield* joinV1(other.server().wsPort, "gateway", gateway.apiKey)
        yield* ofGateway.expect("config")
        yield* written(url, unseen, "delete from tunnels", renamed)
        const nodes = [one, other.server()]
        const [first, second] = yield* Effect.forEach(nodes, untilHeld)
        assert.deepStrictEqual(first.losses, second.losses)
        const answers = yield* Effect.forEach(nodes, (server) => accept(server, first.timeline), {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual(answers.map(({ status, body }) => [status, body.held]), [[200, null], [200, null]])
        for (const client of [ofAgent, ofGateway]) assert.lengthOf((yield* nextConfig(client)).data["tunnels"], 0)
        const { body } = yield* Effect.promise(() => one.operator.get("/api/audit?entityType=network"))
        assert.lengthOf(body.items, 1)
        // What is read whenever a node looks again is no reason for another one.
        for (const server of nodes) yield* Effect.andThen(known(server), known(server))
        const agent = yield* one.newAgent
        yield* one.newTunnel(agent.id)
        yield* ofGateway.expect("agent_create")
        yield* ofGateway.expect("tunnel_create")
        assert.strictEqual(ofAgent.waiting(), 0)
      }),
    60_000
  )

  it.live(
    "is given at once by a node that starts while it is being accepted at the other",
    () =>
      Effect.gen(function*() {
        const { gateway, ofAgent, one, other, url } = yield* twoNodes()
        yield* written(url, unseen, "delete from tunnels", renamed)
        const { timeline } = yield* untilHeld(one)
        yield* other.stop
        const [accepted] = yield* Effect.all([accept(one, timeline), other.start], { concurrency: "unbounded" })
        assert.strictEqual(accepted.status, 200)
        yield* untilGiven(other.server())
        const come = yield* join(other.server().wsPort, "gateway", gateway.apiKey)
        assert.lengthOf(come.config.data["tunnels"], 0)
        assert.lengthOf((yield* nextConfig(ofAgent)).data["tunnels"], 0)
      }),
    60_000
  )

  it.live(
    "is held back at a start without a data directory too, by what the audit says was created",
    () =>
      Effect.gen(function*() {
        const { agent, one, other, url } = yield* twoNodes(false)
        yield* written(url, unseen, "delete from tunnels")
        yield* other.stop
        yield* other.start
        const { losses, timeline } = yield* untilHeld(other.server())
        assert.deepStrictEqual(losses, lossesOf(many))
        assert.strictEqual(yield* refusedAt(other.server(), "agent", agent.apiKey), 1013)
        assert.strictEqual((yield* accept(one, timeline)).status, 200)
        yield* untilGiven(other.server())
        // What was accepted is not asked about at the next start, and what goes after it is.
        yield* Effect.forEach(Array.from({ length: many }), () => one.newTunnel(agent.id))
        yield* other.stop
        yield* other.start
        assert.isNull(yield* heldAt(other.server()))
        yield* written(url, unseen, "delete from tunnels")
        yield* other.stop
        yield* other.start
        assert.deepStrictEqual((yield* untilHeld(other.server())).losses, lossesOf(many))
      }),
    60_000
  )

  it.live(
    "is held back anew when as much is lost a second time, by nodes that run and by one that starts",
    () =>
      Effect.gen(function*() {
        const { agent, ofAgent, one, other, url } = yield* twoNodes()
        yield* written(url, unseen, "delete from tunnels", renamed)
        yield* accept(one, (yield* untilHeld(one)).timeline)
        yield* untilGiven(other.server())
        assert.lengthOf((yield* nextConfig(ofAgent)).data["tunnels"], 0)
        yield* Effect.forEach(Array.from({ length: many }), () => one.newTunnel(agent.id))
        yield* known(other.server())
        yield* written(url, unseen, "delete from tunnels")
        yield* other.stop
        yield* other.start
        assert.deepStrictEqual((yield* untilHeld(other.server())).losses, lossesOf(many))
        yield* written(url, renamed)
        assert.deepStrictEqual((yield* untilHeld(one)).losses, lossesOf(many))
        assert.strictEqual(ofAgent.waiting(), many, "its client was told of the new ones, and of nothing since")
      }),
    60_000
  )
})
