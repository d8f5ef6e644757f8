/** protocol.md, "Order": a view never shrinks because something could not be read, or looks like a mistake. */
import { ChangeBus } from "#feed/ChangeBus.ts"
import { Network } from "#feed/Network.ts"
import { newDatabase } from "#support/database.ts"
import { makeServer } from "#support/server.ts"
import { connect, join, joinV1 } from "#support/TestClient.ts"
import { fromConfig } from "#support/Viewer.ts"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Option, Redacted, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join as joinPath } from "node:path"

const many = 20

/** Some statements in one transaction, as the owner of the tables writes them. */
const written = (url: string, ...statements: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* sql.withTransaction(Effect.forEach(statements, (statement) => sql.unsafe(statement)))
  }).pipe(Effect.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 1 })), Effect.scoped)

/** The triggers do not see it: as a backup that was read in badly, or a hand that went around them. */
const unseen = "set local session_replication_role = replica"
const renamed = "update control_meta set timeline = gen_random_uuid()::text"

const start = Effect.gen(function*() {
  const { url } = yield* newDatabase
  const server = yield* makeServer({ databaseUrl: Option.some(Redacted.make(url)) })
  const agent = yield* server.newAgent
  yield* Effect.forEach(Array.from({ length: many }), () => server.newTunnel(agent.id))
  const client = yield* joinV1(server.wsPort, "agent", agent.apiKey)
  assert.lengthOf((yield* client.expect("config")).data["tunnels"], many)
  const { catchUp } = Context.get(server.context, Network)
  const network = Effect.promise(async () => (await server.operator.get("/api/network")).body)
  return { ...server, url, agent, client, catchUp, network }
})

describe("what is missing and was not deleted", () => {
  it.live(
    "is held back and shown, clients keep what they have, and get the rest when an operator accepts the loss",
    () =>
      Effect.gen(function*() {
        const { agent, catchUp, client, network, newAgent, operator, url, wsPort } = yield* start
        yield* written(url, unseen, "delete from tunnels", renamed)
        yield* Effect.flip(catchUp)
        const { held, timeline } = yield* network
        assert.deepStrictEqual(held.losses, [{ kind: "tunnels", known: many, missing: many }])
        assert.notStrictEqual(held.timeline, timeline)
        assert.strictEqual(client.waiting(), 0)
        const ready = yield* Effect.promise(() => operator.get("/readyz"))
        assert.strictEqual(ready.status, 503)
        assert.include(ready.body.detail, `${many} of ${many} tunnels are missing and were not deleted`)
        // Who comes now gets what is known; a new agent, whose key is part of what is held back, is told to come again.
        const other = yield* join(wsPort, "agent", agent.apiKey)
        assert.lengthOf(other.config.data["tunnels"], many)
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
    "holds up no revocation: whose key is deleted meanwhile is closed, and not let in again",
    () =>
      Effect.gen(function*() {
        const { agent, catchUp, client, network, newAgent, operator, url, wsPort } = yield* start
        const kept = yield* newAgent
        const other = yield* join(wsPort, "agent", kept.apiKey)
        yield* catchUp
        yield* written(url, unseen, "delete from tunnels", renamed)
        yield* Effect.flip(catchUp)
        const { body } = yield* Effect.promise(() => operator.get(`/api/agents/${agent.id}/keys`))
        yield* Effect.promise(() => operator.delete(`/api/agents/${agent.id}/keys/${body.items[0].id}`))
        assert.strictEqual((yield* client.closed).code, 4403)
        const again = yield* connect(wsPort, "?type=agent")
        again.send({ type: "auth", data: { apiKey: agent.apiKey } })
        assert.notStrictEqual((yield* again.closed).code, 1000)
        assert.isNotNull((yield* network).held)
        assert.strictEqual(other.waiting(), 0)
        yield* join(wsPort, "agent", kept.apiKey)
      }),
    15_000
  )

  it.live("is given by itself as soon as it is mended", () =>
    Effect.gen(function*() {
      const { catchUp, client, network, url } = yield* start
      yield* written(url, unseen, "create table kept as select * from tunnels", "delete from tunnels", renamed)
      yield* Effect.flip(catchUp)
      // Mended with triggers, as one reads a backup in by hand.
      yield* written(url, "insert into tunnels select * from kept")
      yield* Effect.retry(catchUp, { times: 200, schedule: Schedule.spaced("50 millis") })
      assert.isNull((yield* network).held)
      assert.lengthOf((yield* client.expect("config")).data["tunnels"], many)
    }), 60_000)

  it.live(
    "is not held back where it was deleted, however much it is, and however late it is read",
    () =>
      Effect.gen(function*() {
        const { catchUp, client, network, url } = yield* start
        // Deleted, and its part of the log forgotten before this process has read it.
        yield* written(
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
    "is held back at a start as well, by what the process before had seen: nobody is let in until it is accepted",
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
          yield* Effect.forEach(Array.from({ length: many }), () => server.newTunnel(agent.id))
          yield* Context.get(server.context, Network).catchUp
          return agent
        }))
        yield* written(
          url,
          unseen,
          "delete from tunnels",
          "delete from changes where revision > 2",
          "update control_meta set revision = 2"
        )
        const server = yield* makeServer(settings)
        const refused = yield* connect(server.wsPort, "?type=agent")
        refused.send({ type: "auth", data: { apiKey: agent.apiKey } })
        assert.strictEqual((yield* refused.closed).code, 1013)
        const { held } = (yield* Effect.promise(() => server.operator.get("/api/network"))).body
        assert.deepStrictEqual(held.losses, [{ kind: "tunnels", known: many, missing: many }])
        yield* Effect.promise(() => server.operator.post("/api/network/acceptance", { timeline: held.timeline }))
        assert.lengthOf((yield* join(server.wsPort, "agent", agent.apiKey)).config.data["tunnels"], 0)
      }),
    60_000
  )
})

describe("a row that cannot be read", () => {
  it.live("stays as it was known, also when everything is read anew, and is shown", () =>
    Effect.gen(function*() {
      const { agent, catchUp, client, network, newGateway, url } = yield* start
      const gateway = yield* newGateway
      yield* catchUp
      yield* client.expect("gateway_create")
      yield* written(
        url,
        unseen,
        `update gateways set wireguard_private_key = 'damaged' where id = '${gateway.id}'`,
        renamed
      )
      yield* catchUp
      const view = fromConfig((yield* client.expect("config")).data)
      assert.deepStrictEqual(Object.keys(view.peers), [gateway.id])
      assert.strictEqual((view.own as { id: string }).id, agent.id)
      const { leftOut } = yield* network
      assert.deepStrictEqual(leftOut.map(({ entityId }: { entityId: string }) => entityId), [gateway.id])
      assert.notInclude(JSON.stringify(leftOut), "'damaged'")
    }), 60_000)
})

describe("a change whose giving out failed in the middle", () => {
  it.live(
    "is made up for by a whole config to everybody, so that no step is missing without a gap",
    () =>
      Effect.gen(function*() {
        const { agent, catchUp, client, context, newTunnel } = yield* start
        const bus = Context.get(context, ChangeBus)
        const { publish } = bus
        Object.assign(bus, {
          publish: () => {
            Object.assign(bus, { publish })
            return Effect.die(new Error("it failed once"))
          }
        })
        yield* newTunnel(agent.id)
        yield* Effect.retry(catchUp, { times: 200, schedule: Schedule.spaced("50 millis") })
        assert.lengthOf((yield* client.expect("config")).data["tunnels"], many + 1)
        yield* newTunnel(agent.id)
        yield* client.expect("tunnel_create")
      }),
    60_000
  )
})
