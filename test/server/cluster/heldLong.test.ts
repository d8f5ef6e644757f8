/** README, "One node or several": what may happen while a loss is held back, at two whole servers on one database. */
import { join, joinV1 } from "#support/TestClient.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import {
  heldAt,
  known,
  lossesOf,
  many,
  nextConfig,
  refusedAt,
  renamed,
  type Server,
  twoNodes,
  unseen,
  untilGiven,
  untilHeld,
  written
} from "./losing.ts"

describe("what is held back, at two nodes", () => {
  it.live(
    "is given by itself within seconds when it is put back past the triggers, as it went",
    () =>
      Effect.gen(function*() {
        const { agent, ofAgent, one, other, url } = yield* twoNodes()
        yield* written(url, unseen, "create table kept as select * from tunnels", "delete from tunnels", renamed)
        yield* untilHeld(one)
        yield* other.stop
        yield* other.start
        yield* untilHeld(other.server())
        yield* written(url, unseen, "insert into tunnels select * from kept")
        yield* untilGiven(one)
        yield* untilGiven(other.server())
        assert.lengthOf((yield* nextConfig(ofAgent)).data["tunnels"], many)
        const come = yield* join(other.server().wsPort, "agent", agent.apiKey)
        assert.lengthOf(come.config.data["tunnels"], many)
      }),
    60_000
  )

  it.live(
    "is mended by an older backup under the same name on a timeline of its own, so that nobody resumes over what it lacks",
    () =>
      Effect.gen(function*() {
        const { agent, gateway, ofAgent, one, other, url } = yield* twoNodes()
        const last = yield* one.newTunnel(agent.id)
        yield* ofAgent.expect("tunnel_create")
        yield* known(other.server())
        const { timeline } = yield* Effect.promise(async () => (await one.operator.get("/api/network")).body)
        // Another database in its place, and then what was there before the last change.
        yield* written(
          url,
          unseen,
          "create table kept as select * from tunnels",
          "create table kept_meta as select * from control_meta",
          `delete from kept where id = '${last.id}'`,
          "delete from tunnels",
          renamed
        )
        yield* untilHeld(one)
        yield* other.stop
        yield* other.start
        yield* untilHeld(other.server())
        yield* written(
          url,
          unseen,
          "insert into tunnels select * from kept",
          "delete from changes where revision = (select revision from control_meta)",
          "update control_meta m set timeline = k.timeline, revision = k.revision - 1 from kept_meta k"
        )
        yield* untilGiven(one)
        yield* untilGiven(other.server())
        const config = yield* nextConfig(ofAgent)
        assert.lengthOf(config.data["tunnels"], many)
        assert.notStrictEqual(config.timeline, timeline)
        // As many changes as before: who was there then must not take them for those.
        yield* one.newTunnel(agent.id)
        yield* known(other.server())
        const came = yield* joinV1(other.server().wsPort, "gateway", gateway.apiKey, {
          resume: { timeline, revision: config.revision === undefined ? 0 : config.revision + 1 }
        })
        assert.lengthOf((yield* came.expect("config")).data["tunnels"], many + 1)
      }),
    60_000
  )

  it.live(
    "stays held back over a loss of every connection to the database, and clients stay",
    () =>
      Effect.gen(function*() {
        const { agent, ofAgent, one, other, url } = yield* twoNodes()
        yield* written(url, unseen, "delete from tunnels", renamed)
        const nodes = [one, other.server()]
        const held = yield* Effect.forEach(nodes, untilHeld)
        yield* written(
          url,
          "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        )
        for (const server of nodes) {
          const come = yield* Effect.retry(join(server.wsPort, "agent", agent.apiKey), { times: 5 })
          assert.lengthOf(come.config.data["tunnels"], many)
        }
        const ready = (server: Server) => Effect.promise(async () => (await server.operator.get("/readyz")).body.detail)
        for (const server of nodes) {
          yield* Effect.repeat(ready(server), { until: (detail) => String(detail).includes("were not deleted") })
        }
        assert.deepStrictEqual(yield* Effect.forEach(nodes, heldAt), held)
        assert.strictEqual((yield* ofAgent.closed).code, 4409, "by the one that came with its key, and by nothing else")
      }),
    60_000
  )

  it.live(
    "is not made up for by rows that were created and deleted meanwhile",
    () =>
      Effect.gen(function*() {
        const { agent, ofAgent, one, other, url } = yield* twoNodes()
        yield* written(url, unseen, "delete from tunnels", renamed)
        yield* untilHeld(one)
        const passing = yield* Effect.forEach(Array.from({ length: many }), () => one.newTunnel(agent.id))
        yield* Effect.forEach(passing, ({ id }) => Effect.promise(() => one.operator.delete(`/api/tunnels/${id}`)))
        yield* other.stop
        yield* other.start
        for (const server of [one, other.server()]) {
          yield* Effect.retry(Effect.flip(known(server)), { times: 100, schedule: Schedule.spaced("50 millis") })
          assert.deepStrictEqual((yield* untilHeld(server)).losses, lossesOf(many))
        }
        assert.strictEqual(ofAgent.waiting(), 0)
      }),
    60_000
  )

  it.live(
    "holds up no revocation, however many keys are missing",
    () =>
      Effect.gen(function*() {
        const { agent, one, other, url } = yield* twoNodes()
        const doomed = yield* one.newAgent
        yield* Effect.forEach(Array.from({ length: many }), () => one.newAgent)
        yield* Effect.forEach([one, other.server()], known)
        const client = yield* join(other.server().wsPort, "agent", doomed.apiKey)
        yield* written(
          url,
          unseen,
          `delete from api_keys where agent_id not in ('${agent.id}', '${doomed.id}')`,
          renamed
        )
        yield* Effect.forEach([one, other.server()], untilHeld)
        const { body } = yield* Effect.promise(() => one.operator.get(`/api/agents/${doomed.id}/keys`))
        yield* Effect.promise(() => one.operator.delete(`/api/agents/${doomed.id}/keys/${body.items[0].id}`))
        assert.strictEqual((yield* client.closed).code, 4403)
        assert.strictEqual(yield* refusedAt(one, "agent", doomed.apiKey), 1013)
        yield* join(one.wsPort, "agent", agent.apiKey)
      }),
    60_000
  )
})
