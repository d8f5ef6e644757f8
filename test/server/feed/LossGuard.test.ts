/** Loss guard and unreadable rows: a view never shrinks by a failed read or by a mass loss (protocol.md, "Order"). */
import { ChangeBus } from "#feed/ChangeBus.ts"
import { Network } from "#feed/Network.ts"
import { followEvents } from "#support/EventFollower.ts"
import { adminToken, newDatabase } from "#support/testDatabase.ts"
import { newTimeline, pastTriggers, runSql } from "#support/lostRows.ts"
import { makeServer } from "#support/TestServer.ts"
import { connect, join, joinV1 } from "#support/TestClient.ts"
import { viewFromConfig } from "#support/ViewReplica.ts"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Option, Redacted, Schedule } from "effect"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join as joinPath } from "node:path"

const tunnelCount = 20

const start = Effect.gen(function*() {
  const { url } = yield* newDatabase
  const server = yield* makeServer({ databaseUrl: Option.some(Redacted.make(url)) })
  const agent = yield* server.newAgent
  yield* Effect.forEach(Array.from({ length: tunnelCount }), () => server.newTunnel(agent.id))
  const client = yield* joinV1(server.wsPort, "agent", agent.apiKey)
  assert.lengthOf((yield* client.expect("config")).data["tunnels"], tunnelCount)
  const { catchUp } = Context.get(server.context, Network)
  const network = Effect.promise(async () => (await server.operator.get("/api/network")).body)
  return { ...server, url, agent, client, catchUp, network }
})

describe("a mass loss of rows that were not deleted", () => {
  it.live(
    "a mass loss is held back and shown; clients keep their views until an operator accepts the loss",
    () =>
      Effect.gen(function*() {
        const { agent, apiUrl, catchUp, client, network, newAgent, operator, url, wsPort } = yield* start
        const follower = yield* followEvents(apiUrl, adminToken)
        yield* runSql(url, pastTriggers, "delete from tunnels", newTimeline)
        yield* Effect.flip(catchUp)
        const { held, timeline } = yield* network
        assert.deepStrictEqual(held.losses, [{ kind: "tunnels", known: tunnelCount, missing: tunnelCount }])
        assert.notStrictEqual(held.timeline, timeline)
        assert.strictEqual(client.unread(), 0)
        const ready = yield* Effect.promise(() => operator.get("/readyz"))
        assert.strictEqual(ready.status, 200, "this node serves its clients, so a balancer must not take it out")
        const text = `${tunnelCount} of ${tunnelCount} tunnels are missing and were not deleted`
        const { findings } = yield* Effect.promise(async () => (await operator.get("/api/doctor")).body)
        const feed = findings.find(({ check }: { check: string }) => check === "feed")
        assert.deepInclude(feed, { severity: "fail" })
        assert.include(feed.what, text)
        const { body: metrics } = yield* Effect.promise(() => operator.get("/metrics"))
        assert.match(metrics, /^control_updates_held 1$/mu)
        const event = yield* follower.nextNamed("update.held")
        assert.deepInclude(event.data, { losses: [{ kind: "tunnels", known: tunnelCount, missing: tunnelCount }] })
        // A client that connects now gets the known view. A new agent, whose key is in the held update, is closed to try later.
        const other = yield* join(wsPort, "agent", agent.apiKey)
        assert.lengthOf(other.config.data["tunnels"], tunnelCount)
        const late = yield* newAgent
        const refused = yield* connect(wsPort, "?type=agent")
        refused.send({ type: "auth", data: { apiKey: late.apiKey } })
        assert.strictEqual((yield* refused.closed).code, 1013)

        const wrong = yield* Effect.promise(() => operator.post("/api/network/acceptance", { timeline }))
        assert.strictEqual(wrong.status, 409)
        const accepted = yield* Effect.promise(() =>
          operator.post("/api/network/acceptance", { timeline: held.timeline })
        )
        assert.strictEqual(accepted.status, 200)
        assert.isNull(accepted.body.held)
        yield* follower.nextNamed("update.released")
        assert.lengthOf((yield* other.expect("config")).data["tunnels"], 0)
        yield* join(wsPort, "agent", late.apiKey)
        const { body } = yield* Effect.promise(() => operator.get("/api/audit?entityType=network"))
        assert.deepStrictEqual(
          body.items.map(({ action, actor, entityId }: Record<string, string>) => [action, actor, entityId]),
          [["network.update", "admin", held.timeline]]
        )
      }),
    60_000
  )

  it.live(
    "a held update does not delay a revocation: a client whose key is deleted is closed and rejected",
    () =>
      Effect.gen(function*() {
        const { agent, catchUp, client, network, newAgent, operator, url, wsPort } = yield* start
        const kept = yield* newAgent
        const other = yield* join(wsPort, "agent", kept.apiKey)
        yield* catchUp
        yield* runSql(url, pastTriggers, "delete from tunnels", newTimeline)
        yield* Effect.flip(catchUp)
        const { body } = yield* Effect.promise(() => operator.get(`/api/agents/${agent.id}/keys`))
        yield* Effect.promise(() => operator.delete(`/api/agents/${agent.id}/keys/${body.items[0].id}`))
        assert.strictEqual((yield* client.closed).code, 4403)
        const again = yield* connect(wsPort, "?type=agent")
        again.send({ type: "auth", data: { apiKey: agent.apiKey } })
        assert.notStrictEqual((yield* again.closed).code, 1000)
        assert.isNotNull((yield* network).held)
        assert.strictEqual(other.unread(), 0)
        yield* join(wsPort, "agent", kept.apiKey)
      }),
    15_000
  )

  it.live("a held update is sent without acceptance once the rows are back", () =>
    Effect.gen(function*() {
      const { catchUp, client, network, url } = yield* start
      yield* runSql(
        url,
        pastTriggers,
        "create table kept as select * from tunnels",
        "delete from tunnels",
        newTimeline
      )
      yield* Effect.flip(catchUp)
      // The rows return with triggers, as when a backup is restored by hand.
      yield* runSql(url, "insert into tunnels select * from kept")
      yield* Effect.retry(catchUp, { times: 200, schedule: Schedule.spaced("50 millis") })
      assert.isNull((yield* network).held)
      assert.lengthOf((yield* client.expect("config")).data["tunnels"], tunnelCount)
    }), 60_000)

  it.live(
    "deleted rows are never held back, however many they are and however late they are read",
    () =>
      Effect.gen(function*() {
        const { catchUp, client, network, url } = yield* start
        // The rows are deleted, and their changes are compacted before this process has read them.
        yield* runSql(
          url,
          "delete from tunnels",
          "set constraints all immediate",
          `delete from changes where revision <= (select revision from control_meta) - 1`
        )
        yield* catchUp
        assert.isNull((yield* network).held)
        assert.lengthOf((yield* client.expect("config")).data["tunnels"], 0)
      }),
    60_000
  )

  it.live(
    "a restarted process holds a loss back by its high-water mark and rejects clients until it is accepted",
    () =>
      Effect.gen(function*() {
        const { url } = yield* newDatabase
        const dataDir = yield* Effect.acquireRelease(
          Effect.promise(() => mkdtemp(joinPath(tmpdir(), "control-held-"))),
          (path) => Effect.promise(() => rm(path, { recursive: true, force: true }))
        )
        const settings = { databaseUrl: Option.some(Redacted.make(url)), masterKey: Option.none(), dataDir }
        const agent = yield* Effect.scoped(Effect.gen(function*() {
          const server = yield* makeServer(settings)
          const agent = yield* server.newAgent
          yield* Effect.forEach(Array.from({ length: tunnelCount }), () => server.newTunnel(agent.id))
          yield* Context.get(server.context, Network).catchUp
          return agent
        }))
        yield* runSql(
          url,
          pastTriggers,
          "delete from tunnels",
          "delete from changes where revision > 2",
          "update control_meta set revision = 2"
        )
        const server = yield* makeServer(settings)
        const refused = yield* connect(server.wsPort, "?type=agent")
        refused.send({ type: "auth", data: { apiKey: agent.apiKey } })
        assert.strictEqual((yield* refused.closed).code, 1013)
        const { held } = (yield* Effect.promise(() => server.operator.get("/api/network"))).body
        assert.deepStrictEqual(held.losses, [{ kind: "tunnels", known: tunnelCount, missing: tunnelCount }])
        yield* Effect.promise(() => server.operator.post("/api/network/acceptance", { timeline: held.timeline }))
        assert.lengthOf((yield* join(server.wsPort, "agent", agent.apiKey)).config.data["tunnels"], 0)
      }),
    60_000
  )
})

describe("an unreadable row", () => {
  it.live("an unreadable row keeps its last known version across a reload and is shown", () =>
    Effect.gen(function*() {
      const { agent, catchUp, client, network, newGateway, url } = yield* start
      const gateway = yield* newGateway
      yield* catchUp
      yield* client.expect("gateway_create")
      yield* runSql(
        url,
        pastTriggers,
        `update gateways set wireguard_private_key = 'damaged' where id = '${gateway.id}'`,
        newTimeline
      )
      yield* catchUp
      const view = viewFromConfig((yield* client.expect("config")).data)
      assert.deepStrictEqual(Object.keys(view.peers), [gateway.id])
      assert.strictEqual((view.own as { id: string }).id, agent.id)
      const { unreadable } = yield* network
      assert.deepStrictEqual(unreadable.map(({ entityId }: { entityId: string }) => entityId), [gateway.id])
      assert.notInclude(JSON.stringify(unreadable), "'damaged'")
    }), 60_000)
})

describe("a change whose publishing failed", () => {
  it.live(
    "a change whose publishing failed is followed by a config to every client, so that no delta is missing",
    () =>
      Effect.gen(function*() {
        const { agent, catchUp, client, context, newTunnel } = yield* start
        const bus = Context.get(context, ChangeBus)
        const { publish } = bus
        Object.assign(bus, {
          publish: () => {
            Object.assign(bus, { publish })
            return Effect.die(new Error("simulated failure"))
          }
        })
        yield* newTunnel(agent.id)
        yield* Effect.retry(catchUp, { times: 200, schedule: Schedule.spaced("50 millis") })
        assert.lengthOf((yield* client.expect("config")).data["tunnels"], tunnelCount + 1)
        yield* newTunnel(agent.id)
        yield* client.expect("tunnel_create")
      }),
    60_000
  )
})
