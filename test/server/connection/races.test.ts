/** Races between snapshots, deltas and takeovers. */
import { ClientRegistry } from "#clients/ClientRegistry.ts"
import { AgentId } from "#schema/ids.ts"
import { TestServer } from "#support/TestServer.ts"
import { connect, join } from "#support/TestClient.ts"
import { viewFromConfig, ViewReplica } from "#support/ViewReplica.ts"
import { assert, layer } from "@effect/vitest"
import { Context, Effect, Fiber, Option } from "effect"
import { SqlClient } from "effect/sql"

layer(TestServer.layer(), { excludeTestServices: true })("no change is lost or sent twice", (it) => {
  it.effect("clients that connect during changes get config first and end with the same view as the database", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const sql = Context.get(server.context, SqlClient.SqlClient)
      const agent = yield* server.newAgent
      const gateways = yield* Effect.forEach(Array.from({ length: 5 }), () => server.newGateway)
      yield* sql`insert into tunnels (id, agent_id, domain, target)
        select 'race' || i, ${agent.id}, 'race' || i || '.example.com', 'localhost:1' from generate_series(1, 20) i`

      // A continuous writer by SQL: changes happen before, during and after every config.
      const writer = yield* Effect.forkChild(Effect.forEach(
        Array.from({ length: 400 }, (_, round) => round),
        (round) =>
          round % 4 === 3
            ? sql`delete from tunnels where id = ${`race${round % 20}`}`
            : sql`insert into tunnels (id, agent_id, domain, target)
                values (${`race${round % 20}`}, ${agent.id}, ${`race${round % 20}.example.com`}, ${`localhost:${
              round + 1
            }`})
                on conflict (id) do update set target = excluded.target`,
        { discard: true }
      ))
      const follow = (type: "agent" | "gateway", apiKey: string) =>
        Effect.gen(function*() {
          const client = yield* connect(server.wsPort, `?type=${type}`)
          client.send({ type: "auth", data: { apiKey } })
          yield* client.expect("auth_success")
          const viewer = new ViewReplica()
          viewer.apply(yield* client.expect("config"))
          return { client, viewer }
        })
      const keys = [["agent", agent.apiKey] as const, ...gateways.map(({ apiKey }) => ["gateway", apiKey] as const)]
      const rounds = yield* Effect.forEach(keys, ([type, apiKey]) => follow(type, apiKey), { concurrency: "unbounded" })
      yield* Fiber.join(writer)
      const last = yield* server.newTunnel(agent.id)
      for (const { client, viewer } of rounds) {
        // The viewer fails on a create of an existing row, and on an update or delete of a missing one.
        while (viewer.view?.tunnels[last.id] === undefined) viewer.apply(yield* client.next)
      }
      const fresh = yield* join(server.wsPort, "gateway", gateways[0]?.apiKey ?? "")
      const truth = viewFromConfig(fresh.config.data).tunnels
      for (const { viewer } of rounds.slice(1)) assert.deepStrictEqual(viewer.view?.tunnels, truth)
      assert.sameMembers(Object.keys(rounds[0]?.viewer.view?.tunnels ?? {}), Object.keys(truth))
    }))

  it.effect("a late close of a replaced session leaves the new one online", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const registry = Context.get(server.context, ClientRegistry)
      const { apiKey, id, client } = yield* server.joinAgent
      // A client that does not read keeps the old socket open until after the new session has begun.
      client.ws.pause()
      const second = yield* join(server.wsPort, "agent", apiKey)
      const sessions = Effect.map(registry.all, (all) => all.filter(({ ref }) => ref.id === id))
      client.ws.terminate()
      yield* Effect.repeat(sessions, { until: (left) => left.length === 1 })
      // Releases are written in order: once a later release is visible, that of the old session was written.
      const later = yield* server.joinAgent
      later.client.ws.close()
      const statusOf = (agentId: string) =>
        Effect.promise(() => server.operator.get(`/api/agents/${agentId}`)).pipe(Effect.map(({ body }) => body.status))
      yield* Effect.repeat(statusOf(later.id), { until: (status) => status === "offline" })
      assert.strictEqual(yield* statusOf(id), "online")
      assert.isTrue(
        Option.isSome(yield* registry.find({ type: "agent", id: AgentId.make(id) })),
        "the new session is still registered"
      )
      second.ws.close()
      yield* Effect.repeat(statusOf(id), { until: (status) => status === "offline" })
    }))

  it.effect("a row that another program writes reaches its clients like any other", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const sql = Context.get(server.context, SqlClient.SqlClient)
      const { client, id } = yield* server.joinAgent
      yield* sql`insert into tunnels (agent_id, domain, target) values (${id}, 'by-sql.example.com', 'localhost:80')`
      const created = yield* client.expect("tunnel_create")
      assert.strictEqual(created.data["domain"], "by-sql.example.com")
      // A transaction that is rolled back is no change.
      yield* sql.withTransaction(Effect.andThen(sql`update tunnels set enabled = false`, Effect.fail("rolled back")))
        .pipe(Effect.ignore)
      yield* sql`update tunnels set target = target`
      yield* sql`delete from tunnels where domain = 'by-sql.example.com'`
      assert.strictEqual((yield* client.next).type, "tunnel_delete")
    }))
})
