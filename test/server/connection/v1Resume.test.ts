/** Resuming in `control.v1`: a client gets exactly the missed changes, or a config. */
import { Network } from "#feed/Network.ts"
import { TestServer } from "#support/TestServer.ts"
import { joinV1, type TestClient } from "#support/TestClient.ts"
import { viewFromConfig, ViewReplica } from "#support/ViewReplica.ts"
import { assert, layer } from "@effect/vitest"
import { Context, Effect } from "effect"
import { SqlClient } from "effect/sql"

/** All messages before the answer to a heartbeat. */
const messagesUntilAck = Effect.fnUntraced(function*(client: TestClient) {
  client.send({ type: "heartbeat", data: { timestamp: 0 } })
  const messages = []
  while (true) {
    const message = yield* client.next
    if (message.type === "heartbeat_ack") return messages
    messages.push(message)
  }
})

const disconnect = Effect.fnUntraced(function*(client: TestClient) {
  client.ws.close()
  yield* client.closed
})

layer(TestServer.layer(), { excludeTestServices: true })("control.v1: resuming", (it) => {
  /** A gateway that got its config and disconnected; `back` connects it again. */
  const disconnected = Effect.gen(function*() {
    const server = yield* TestServer
    const gateway = yield* server.newGateway
    const client = yield* joinV1(server.wsPort, "gateway", gateway.apiKey)
    const viewer = new ViewReplica()
    viewer.apply(yield* client.expect("config"))
    yield* disconnect(client)
    const back = (resume: unknown) =>
      Effect.gen(function*() {
        // A change that the server has not applied yet would follow as a delta.
        yield* Context.get(server.context, Network).catchUp
        const client = yield* joinV1(server.wsPort, "gateway", gateway.apiKey, { resume })
        viewer.apply(client.success)
        const messages = yield* messagesUntilAck(client)
        for (const message of messages) viewer.apply(message)
        return { client, messages, resumed: client.success.data["resumed"] }
      })
    return { server, viewer, gateway, back, position: { timeline: viewer.timeline, revision: viewer.revision } }
  })

  it.effect("a client that missed nothing gets nothing", () =>
    Effect.gen(function*() {
      const { back, position } = yield* disconnected
      const { messages, resumed } = yield* back(position)
      assert.isTrue(resumed)
      assert.deepStrictEqual(messages, [])
    }))

  it.effect("a client that missed changes gets each changed row once, in its current state, and has the full view again", () =>
    Effect.gen(function*() {
      const { back, gateway, position, server, viewer } = yield* disconnected
      const agent = yield* server.newAgent
      const tunnel = yield* server.newTunnel(agent.id)
      const other = yield* server.newTunnel(agent.id)
      yield* Effect.promise(async () => {
        await server.operator.patch(`/api/tunnels/${tunnel.id}`, { enabled: false })
        await server.operator.patch(`/api/tunnels/${tunnel.id}`, { target: "localhost:9" })
        await server.operator.delete(`/api/tunnels/${other.id}`)
      })
      const { client, messages, resumed } = yield* back(position)
      assert.isTrue(resumed)
      assert.deepStrictEqual(messages.map(({ type }) => type), ["agent_update", "tunnel_update", "tunnel_delete"])
      assert.strictEqual(messages[0]?.previous, position.revision)
      // Deltas follow from there.
      yield* server.newTunnel(agent.id)
      viewer.apply(yield* client.expect("tunnel_create"))
      const fresh = yield* joinV1(server.wsPort, "gateway", gateway.apiKey)
      assert.deepStrictEqual(viewer.view, viewFromConfig((yield* fresh.expect("config")).data))
    }))

  it.effect("an agent is sent the deletion of a tunnel that moved away, and nothing about tunnels of other agents", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const agent = yield* server.newAgent
      const other = yield* server.newAgent
      const moved = yield* server.newTunnel(agent.id)
      yield* Context.get(server.context, Network).catchUp
      const first = yield* joinV1(server.wsPort, "agent", agent.apiKey)
      const config = yield* first.expect("config")
      yield* disconnect(first)
      yield* server.newTunnel(other.id)
      yield* Effect.promise(() => server.operator.patch(`/api/tunnels/${moved.id}`, { agentId: other.id }))
      yield* Context.get(server.context, Network).catchUp
      const resume = { timeline: config.timeline, revision: config.revision }
      const client = yield* joinV1(server.wsPort, "agent", agent.apiKey, { resume })
      assert.isTrue(client.success.data["resumed"])
      assert.deepStrictEqual((yield* messagesUntilAck(client)).map(({ data, type }) => [type, data["id"]]), [
        ["tunnel_delete", moved.id]
      ])
    }))

  it.effect("a resume from another timeline, a future revision or invalid data is answered with a config, never with an error", () =>
    Effect.gen(function*() {
      const { back, position } = yield* disconnected
      const bad: ReadonlyArray<unknown> = [
        { ...position, timeline: "0a8c9c1e-3c1f-4d5e-9d5a-0a8c9c1e3c1f" },
        { ...position, revision: (position.revision ?? 0) + 1_000 },
        { ...position, revision: -1 },
        { timeline: 1, revision: "x" },
        "nonsense",
        null,
        {}
      ]
      for (const resume of bad) {
        const { client, messages, resumed } = yield* back(resume)
        assert.isFalse(resumed, JSON.stringify(resume))
        assert.deepStrictEqual(messages.map(({ type }) => type), ["config"], JSON.stringify(resume))
        yield* disconnect(client)
      }
    }))

  it.effect("a replay is never longer than the config would be", () =>
    Effect.gen(function*() {
      const { back, position, server } = yield* disconnected
      const sql = Context.get(server.context, SqlClient.SqlClient)
      const agent = yield* server.newAgent
      yield* sql`insert into tunnels (agent_id, domain, target)
        select ${agent.id}, 'x' || i || '.example.com', 'localhost:1' from generate_series(1, 500) i`
      yield* sql`delete from tunnels where domain like 'x%'`
      const { client, messages, resumed } = yield* back(position)
      assert.isFalse(resumed)
      assert.deepStrictEqual(messages.map(({ type }) => type), ["config"])
      yield* disconnect(client)
    }))

  it.effect("a restored database starts a new timeline: connected clients get its config, and no client resumes across it", () =>
    Effect.gen(function*() {
      const { back, gateway, server, viewer } = yield* disconnected
      const sql = Context.get(server.context, SqlClient.SqlClient)
      const agent = yield* server.newAgent
      const { client, resumed } = yield* back({ timeline: viewer.timeline, revision: viewer.revision })
      assert.isTrue(resumed)
      const lost = yield* server.newTunnel(agent.id)
      const step = yield* client.expect("tunnel_create")
      // Undoes the last change, as a restored backup would.
      yield* sql.withTransaction(Effect.gen(function*() {
        yield* sql`set session_replication_role = replica`
        yield* sql`delete from tunnels where id = ${lost.id}`
        yield* sql`delete from changes where revision = ${step.revision ?? 0}`
        yield* sql`update control_meta set revision = revision - 1`
        yield* sql`set session_replication_role = origin`
      }))
      const config = yield* client.expect("config")
      assert.notStrictEqual(config.timeline, viewer.timeline)
      assert.notProperty(viewFromConfig(config.data).tunnels, lost.id)
      yield* disconnect(client)
      const stale = { timeline: viewer.timeline, revision: step.revision }
      const again = yield* joinV1(server.wsPort, "gateway", gateway.apiKey, { resume: stale })
      assert.isFalse(again.success.data["resumed"])
    }))
})
