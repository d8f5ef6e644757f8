/** README, "One node or several": what is missing and was not deleted, seen by two whole servers on one database. */
import { Network } from "#feed/Network.ts"
import { newDatabase } from "#support/database.ts"
import { temporaryDirectory } from "#support/process.ts"
import { makeServer } from "#support/server.ts"
import { connect, join, joinV1, type TestClient } from "#support/TestClient.ts"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Option, Redacted, Schedule, Scope } from "effect"
import { SqlClient } from "effect/sql"
import { randomBytes } from "node:crypto"
import { writeFile } from "node:fs/promises"
import { join as joinPath } from "node:path"

type Server = Effect.Success<ReturnType<typeof makeServer>>

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

/** How a node is given its secrets: in a data directory of its own, where it also keeps its mark, or from outside. */
const directoryWith = Effect.fnUntraced(function*(masterKey: string) {
  const dataDir = yield* temporaryDirectory
  yield* Effect.promise(() => writeFile(joinPath(dataDir, "master-key"), `${masterKey}\n`, { mode: 0o600 }))
  return { dataDir, masterKey: Option.none() }
})

/** Two nodes that know an agent with many tunnels, each with a client of its own kind. */
const twoNodes = Effect.fnUntraced(function*(keepMarks = true) {
  const { url } = yield* newDatabase
  const masterKey = randomBytes(32).toString("base64")
  const databaseUrl = Option.some(Redacted.make(url))
  const settingsOf = keepMarks
    ? directoryWith(masterKey)
    : Effect.succeed({ masterKey: Option.some(Redacted.make(masterKey)) })
  const [ofOne, ofOther] = [yield* settingsOf, yield* settingsOf]
  const one = yield* makeServer({ databaseUrl, ...ofOne, nodeName: "one" })
  const other = yield* restartable({ databaseUrl, ...ofOther, nodeName: "other" })
  const agent = yield* one.newAgent
  yield* Effect.forEach(Array.from({ length: many }), () => one.newTunnel(agent.id))
  const gateway = yield* one.newGateway
  yield* known(one)
  yield* known(other.server())
  const ofAgent = yield* joinV1(one.wsPort, "agent", agent.apiKey)
  assert.lengthOf((yield* ofAgent.expect("config")).data["tunnels"], many)
  return { url, one, other, agent, gateway, ofAgent }
})

/** A server that can be stopped and started again with the same settings. */
const restartable = Effect.fnUntraced(function*(settings: Parameters<typeof makeServer>[0]) {
  let scope = yield* Scope.fork(yield* Effect.scope)
  let server = yield* Scope.provide(makeServer(settings), scope)
  const outer = yield* Effect.scope
  return {
    server: () => server,
    stop: Effect.suspend(() => Scope.close(scope, Exit.void)),
    start: Effect.gen(function*() {
      scope = yield* Scope.fork(outer)
      server = yield* Scope.provide(makeServer(settings), scope)
    })
  }
})

const known = (server: Server) => Context.get(server.context, Network).catchUp

const heldAt = (server: Server) => Effect.promise(async () => (await server.operator.get("/api/network")).body.held)

const untilHeld = (server: Server) => Effect.repeat(heldAt(server), { until: (held) => held !== null })
const untilGiven = (server: Server) => Effect.repeat(heldAt(server), { until: (held) => held === null })

const accept = (server: Server, timeline: string) =>
  Effect.promise(() => server.operator.post("/api/network/acceptance", { timeline }))

/** Whoever is let in gets in; everybody else is told to come again. */
const refusedAt = Effect.fnUntraced(function*(server: Server, type: "agent" | "gateway", apiKey: string) {
  const client = yield* connect(server.wsPort, `?type=${type}`)
  client.send({ type: "auth", data: { apiKey } })
  return (yield* client.closed).code
})

/** The next `config` of a client that may be told other things before it. */
const nextConfig = (client: TestClient) => Effect.repeat(client.next, { until: ({ type }) => type === "config" })

const lossesOf = (missing: number, from = many) => [{ kind: "tunnels", known: from, missing }]

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
        const ofGateway = yield* join(other.server().wsPort, "gateway", gateway.apiKey)
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
