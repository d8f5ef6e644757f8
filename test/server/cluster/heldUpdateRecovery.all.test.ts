/** Events while the loss guard holds an update back, with two servers on one database. */
import { join, joinV1 } from "#support/TestClient.ts"
import { newTimeline, pastTriggers, runSql } from "#support/lostRows.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import {
  catchUp,
  closeCodeOf,
  heldAt,
  lossesOf,
  nextConfig,
  tunnelCount,
  twoNodes,
  untilHeld,
  untilReleased,
  untilRevoked
} from "./lossNodes.ts"

describe("a held update at two nodes", () => {
  it.live(
    "a held update is released within seconds when the rows return past the triggers",
    () =>
      Effect.gen(function*() {
        const { agent, agentClient, one, other, url } = yield* twoNodes()
        yield* runSql(
          url,
          pastTriggers,
          "create table saved as select * from tunnels",
          "delete from tunnels",
          newTimeline
        )
        yield* untilHeld(one)
        yield* other.stop
        yield* other.start
        yield* untilHeld(other.server())
        yield* runSql(url, pastTriggers, "insert into tunnels select * from saved")
        yield* untilReleased(one)
        yield* untilReleased(other.server())
        assert.lengthOf((yield* nextConfig(agentClient)).data["tunnels"], tunnelCount)
        const connected = yield* join(other.server().wsPort, "agent", agent.apiKey)
        assert.lengthOf(connected.config.data["tunnels"], tunnelCount)
      }),
    60_000
  )

  it.live(
    "a held update is released on a new timeline when an older backup returns, so that no client resumes over missing changes",
    () =>
      Effect.gen(function*() {
        const { agent, gateway, agentClient, one, other, url } = yield* twoNodes()
        const last = yield* one.newTunnel(agent.id)
        yield* agentClient.expect("tunnel_create")
        yield* catchUp(other.server())
        const { timeline } = yield* Effect.promise(async () => (await one.operator.get("/api/network")).body)
        // A different database takes its place, then the state before the last change returns.
        yield* runSql(
          url,
          pastTriggers,
          "create table saved as select * from tunnels",
          "create table saved_meta as select * from control_meta",
          `delete from saved where id = '${last.id}'`,
          "delete from tunnels",
          newTimeline
        )
        yield* untilHeld(one)
        yield* other.stop
        yield* other.start
        yield* untilHeld(other.server())
        yield* runSql(
          url,
          pastTriggers,
          "insert into tunnels select * from saved",
          "delete from changes where revision = (select revision from control_meta)",
          "update control_meta m set timeline = k.timeline, revision = k.revision - 1 from saved_meta k"
        )
        yield* untilReleased(one)
        yield* untilReleased(other.server())
        const config = yield* nextConfig(agentClient)
        assert.lengthOf(config.data["tunnels"], tunnelCount)
        assert.notStrictEqual(config.timeline, timeline)
        // The revision reaches its former number: a client of the former timeline must not resume from it.
        yield* one.newTunnel(agent.id)
        yield* catchUp(other.server())
        const resumed = yield* joinV1(other.server().wsPort, "gateway", gateway.apiKey, {
          resume: { timeline, revision: config.revision === undefined ? 0 : config.revision + 1 }
        })
        assert.lengthOf((yield* resumed.expect("config")).data["tunnels"], tunnelCount + 1)
      }),
    60_000
  )

  it.live(
    "a held update stays held back when all database connections are lost, and clients stay connected",
    () =>
      Effect.gen(function*() {
        const { agent, agentClient, one, other, url } = yield* twoNodes()
        yield* runSql(url, pastTriggers, "delete from tunnels", newTimeline)
        const nodes = [one, other.server()]
        const held = yield* Effect.forEach(nodes, untilHeld)
        yield* runSql(
          url,
          "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        )
        for (const server of nodes) {
          const connected = yield* Effect.retry(join(server.wsPort, "agent", agent.apiKey), { times: 5 })
          assert.lengthOf(connected.config.data["tunnels"], tunnelCount)
        }
        for (const server of nodes) {
          const ready = Effect.promise(async () => (await server.operator.get("/readyz")).status)
          yield* Effect.repeat(ready, { until: (status) => status === 200 })
        }
        assert.deepStrictEqual(yield* Effect.forEach(nodes, heldAt), held)
        assert.strictEqual(
          (yield* agentClient.closed).code,
          4409,
          "closed by the session that replaced it, and by nothing else"
        )
      }),
    60_000
  )

  it.live(
    "a held update is not compensated by rows that are created and deleted while it is held back",
    () =>
      Effect.gen(function*() {
        const { agent, agentClient, one, other, url } = yield* twoNodes()
        yield* runSql(url, pastTriggers, "delete from tunnels", newTimeline)
        yield* untilHeld(one)
        const passing = yield* Effect.forEach(Array.from({ length: tunnelCount }), () => one.newTunnel(agent.id))
        yield* Effect.forEach(passing, ({ id }) => Effect.promise(() => one.operator.delete(`/api/tunnels/${id}`)))
        yield* other.stop
        yield* other.start
        for (const server of [one, other.server()]) {
          yield* Effect.retry(Effect.flip(catchUp(server)), { times: 100, schedule: Schedule.spaced("50 millis") })
          assert.deepStrictEqual((yield* untilHeld(server)).losses, lossesOf(tunnelCount))
        }
        assert.strictEqual(agentClient.unread(), 0)
      }),
    60_000
  )

  it.live(
    "a held update does not delay a revocation, whatever number of keys is missing",
    () =>
      Effect.gen(function*() {
        const { agent, one, other, url } = yield* twoNodes()
        const doomed = yield* one.newAgent
        yield* Effect.forEach(Array.from({ length: tunnelCount }), () => one.newAgent)
        yield* Effect.forEach([one, other.server()], catchUp)
        const client = yield* join(other.server().wsPort, "agent", doomed.apiKey)
        yield* runSql(
          url,
          pastTriggers,
          `delete from api_keys where agent_id not in ('${agent.id}', '${doomed.id}')`,
          newTimeline
        )
        yield* Effect.forEach([one, other.server()], untilHeld)
        const { body } = yield* Effect.promise(() => one.operator.get(`/api/agents/${doomed.id}/keys`))
        yield* Effect.promise(() => one.operator.delete(`/api/agents/${doomed.id}/keys/${body.items[0].id}`))
        assert.strictEqual((yield* client.closed).code, 4403)
        yield* untilRevoked(one, body.items[0].id)
        assert.strictEqual(yield* closeCodeOf(one, "agent", doomed.apiKey), 1013)
        yield* join(one.wsPort, "agent", agent.apiKey)
      }),
    60_000
  )
})
