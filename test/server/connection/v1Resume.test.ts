/** protocol.md, "Resuming": who comes back gets exactly what was missed, and the worst case is a config. */
import { Network } from "#feed/Network.ts"
import { TestServer } from "#support/server.ts"
import { joinV1, type TestClient } from "#support/TestClient.ts"
import { fromConfig, Viewer } from "#support/Viewer.ts"
import { assert, layer } from "@effect/vitest"
import { Context, Effect } from "effect"
import { SqlClient } from "effect/sql"

/** Everything that has come by the time a heartbeat is answered. */
const answered = Effect.fnUntraced(function*(client: TestClient) {
  client.send({ type: "heartbeat", data: { timestamp: 0 } })
  const messages = []
  while (true) {
    const message = yield* client.next
    if (message.type === "heartbeat_ack") return messages
    messages.push(message)
  }
})

const leave = Effect.fnUntraced(function*(client: TestClient) {
  client.ws.close()
  yield* client.closed
})

layer(TestServer.layer(), { excludeTestServices: true })("control.v1: resuming", (it) => {
  /** A gateway that has come, has its config, and has gone. */
  const gone = Effect.gen(function*() {
    const server = yield* TestServer
    const gateway = yield* server.newGateway
    const client = yield* joinV1(server.wsPort, "gateway", gateway.apiKey)
    const viewer = new Viewer()
    viewer.take(yield* client.expect("config"))
    yield* leave(client)
    const back = (resume: unknown) =>
      Effect.gen(function*() {
        // What is still on its way when the client comes would follow as steps.
        yield* Context.get(server.context, Network).catchUp
        const client = yield* joinV1(server.wsPort, "gateway", gateway.apiKey, { resume })
        viewer.take(client.success)
        const messages = yield* answered(client)
        for (const message of messages) viewer.take(message)
        return { client, messages, resumed: client.success.data["resumed"] }
      })
    return { server, viewer, gateway, back, place: { timeline: viewer.timeline, revision: viewer.revision } }
  })

  it.effect("who missed nothing gets nothing", () =>
    Effect.gen(function*() {
      const { back, place } = yield* gone
      const { messages, resumed } = yield* back(place)
      assert.isTrue(resumed)
      assert.deepStrictEqual(messages, [])
    }))

  it.effect("who missed changes gets each row once, as it is now, and the view is whole again", () =>
    Effect.gen(function*() {
      const { back, gateway, place, server, viewer } = yield* gone
      const agent = yield* server.newAgent
      const tunnel = yield* server.newTunnel(agent.id)
      const other = yield* server.newTunnel(agent.id)
      yield* Effect.promise(async () => {
        await server.operator.patch(`/api/tunnels/${tunnel.id}`, { enabled: false })
        await server.operator.patch(`/api/tunnels/${tunnel.id}`, { target: "localhost:9" })
        await server.operator.delete(`/api/tunnels/${other.id}`)
      })
      const { client, messages, resumed } = yield* back(place)
      assert.isTrue(resumed)
      assert.deepStrictEqual(messages.map(({ type }) => type), ["agent_update", "tunnel_update", "tunnel_delete"])
      assert.strictEqual(messages[0]?.previous, place.revision)
      // And it goes on from there.
      yield* server.newTunnel(agent.id)
      viewer.take(yield* client.expect("tunnel_create"))
      const fresh = yield* joinV1(server.wsPort, "gateway", gateway.apiKey)
      assert.deepStrictEqual(viewer.view, fromConfig((yield* fresh.expect("config")).data))
    }))

  it.effect("an agent learns that a tunnel has left it, and of none that was never its own", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const agent = yield* server.newAgent
      const other = yield* server.newAgent
      const moved = yield* server.newTunnel(agent.id)
      const first = yield* joinV1(server.wsPort, "agent", agent.apiKey)
      const config = yield* first.expect("config")
      yield* leave(first)
      yield* server.newTunnel(other.id)
      yield* Effect.promise(() => server.operator.patch(`/api/tunnels/${moved.id}`, { agentId: other.id }))
      yield* Context.get(server.context, Network).catchUp
      const resume = { timeline: config.timeline, revision: config.revision }
      const client = yield* joinV1(server.wsPort, "agent", agent.apiKey, { resume })
      assert.isTrue(client.success.data["resumed"])
      assert.deepStrictEqual((yield* answered(client)).map(({ data, type }) => [type, data["id"]]), [
        ["tunnel_delete", moved.id]
      ])
    }))

  it.effect("another timeline, the future and nonsense each end in a config, never in an error", () =>
    Effect.gen(function*() {
      const { back, place } = yield* gone
      const bad: ReadonlyArray<unknown> = [
        { ...place, timeline: "0a8c9c1e-3c1f-4d5e-9d5a-0a8c9c1e3c1f" },
        { ...place, revision: (place.revision ?? 0) + 1_000 },
        { ...place, revision: -1 },
        { timeline: 1, revision: "x" },
        "nonsense",
        null,
        {}
      ]
      for (const resume of bad) {
        const { client, messages, resumed } = yield* back(resume)
        assert.isFalse(resumed, JSON.stringify(resume))
        assert.deepStrictEqual(messages.map(({ type }) => type), ["config"], JSON.stringify(resume))
        yield* leave(client)
      }
    }))

  it.effect("a replay is never longer than the config would be", () =>
    Effect.gen(function*() {
      const { back, place, server } = yield* gone
      const sql = Context.get(server.context, SqlClient.SqlClient)
      const agent = yield* server.newAgent
      yield* sql`insert into tunnels (agent_id, domain, target)
        select ${agent.id}, 'x' || i || '.example.com', 'localhost:1' from generate_series(1, 500) i`
      yield* sql`delete from tunnels where domain like 'x%'`
      const { client, messages, resumed } = yield* back(place)
      assert.isFalse(resumed)
      assert.deepStrictEqual(messages.map(({ type }) => type), ["config"])
      yield* leave(client)
    }))

  it.effect("a database that was restored is another history: connected clients get a config of it, and nobody resumes over it", () =>
    Effect.gen(function*() {
      const { back, gateway, server, viewer } = yield* gone
      const sql = Context.get(server.context, SqlClient.SqlClient)
      const agent = yield* server.newAgent
      const { client, resumed } = yield* back({ timeline: viewer.timeline, revision: viewer.revision })
      assert.isTrue(resumed)
      const lost = yield* server.newTunnel(agent.id)
      const step = yield* client.expect("tunnel_create")
      // The last change is undone, as by a backup from before it.
      yield* sql.withTransaction(Effect.gen(function*() {
        yield* sql`set session_replication_role = replica`
        yield* sql`delete from tunnels where id = ${lost.id}`
        yield* sql`delete from changes where revision = ${step.revision ?? 0}`
        yield* sql`update control_meta set revision = revision - 1`
        yield* sql`set session_replication_role = origin`
      }))
      const config = yield* client.expect("config")
      assert.notStrictEqual(config.timeline, viewer.timeline)
      assert.notProperty(fromConfig(config.data).tunnels, lost.id)
      yield* leave(client)
      const stale = { timeline: viewer.timeline, revision: step.revision }
      const again = yield* joinV1(server.wsPort, "gateway", gateway.apiKey, { resume: stale })
      assert.isFalse(again.success.data["resumed"])
    }))
})
