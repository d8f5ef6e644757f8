/** Shutdown and restart: reconnect schedule, and detection of a restored database. See protocol.md, "Reconnecting". */
import { scheduleReconnects } from "#connection/reconnectSchedule.ts"
import { Network } from "#feed/Network.ts"
import type { ClientType } from "#schema/ids.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { newDatabase } from "#support/testDatabase.ts"
import { makeServer } from "#support/TestServer.ts"
import { join, joinV1 } from "#support/TestClient.ts"
import { viewFromConfig } from "#support/ViewReplica.ts"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Option, Redacted, Schema, Scope } from "effect"
import { SqlClient } from "effect/sql"

/** Undoes the change of this revision, as a restored backup would, and gives its number to another change. */
const restore = (url: string, agentId: string, revision: number) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* sql.withTransaction(Effect.gen(function*() {
      yield* sql`set session_replication_role = replica`
      yield* sql`delete from tunnels`
      yield* sql`delete from changes where revision = ${revision}`
      yield* sql`update control_meta set revision = revision - 1`
    }))
    yield* sql`set session_replication_role = origin`
    yield* sql`insert into tunnels (id, agent_id, domain, target)
      values ('other', ${agentId}, 'other.example.com', 'localhost:1')`
  }).pipe(Effect.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 1 })), Effect.scoped)

describe("a stopping server", () => {
  it.effect.prop("a stopping server schedules each client at its own delay, gateways first, within 30 s", {
    types: Schema.Array(Schema.Literals(["agent", "gateway"])).check(Schema.isBetweenLength(1, 300)),
    shift: Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 0.999 }))
  }, ({ shift, types }) =>
    Effect.sync(() => {
      const clients = types.map((type: ClientType, id) => ({ type, id }))
      const delays = scheduleReconnects(clients, shift)
      assert.lengthOf(delays, clients.length)
      assert.strictEqual(new Set(delays.map(([{ id }]) => id)).size, clients.length)
      assert.strictEqual(new Set(delays.map(([, delay]) => delay)).size, clients.length)
      const ordered = delays.toSorted(([, one], [, other]) => one - other).map(([{ type }]) => type)
      assert.deepStrictEqual(ordered, ordered.toSorted((one, other) => one === other ? 0 : one === "gateway" ? -1 : 1))
      for (const [, delay] of delays) assert.isTrue(delay >= 0 && delay <= 30_000)
    }), { arbitrary: { runs: 100, size: 60 } })

  it.live("a stopping server sends each control.v1 client a drain with its own delay, and closes plain clients without one", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const server = yield* Scope.provide(makeServer(), scope)
      const agents = [yield* server.newAgent, yield* server.newAgent]
      const gateway = yield* server.newGateway
      // Otherwise the first agent may get a view without the gateway, and a late `gateway_create`.
      yield* Context.get(server.context, Network).catchUp
      const [one, other] = [
        yield* joinV1(server.wsPort, "agent", agents[0]?.apiKey ?? ""),
        yield* joinV1(server.wsPort, "gateway", gateway.apiKey)
      ]
      const plain = yield* join(server.wsPort, "agent", agents[1]?.apiKey ?? "")
      yield* one.expect("config")
      yield* other.expect("config")
      yield* Effect.forkChild(Scope.close(scope, Exit.void))
      const [first, second] = [yield* other.expect("drain"), yield* one.expect("drain")]
      assert.isBelow(first.data["reconnectAfterMs"], second.data["reconnectAfterMs"])
      for (const client of [one, other, plain]) assert.strictEqual((yield* client.closed).code, 1012)
      assert.strictEqual(plain.unread(), 1)
    }))
})

describe("a starting server", () => {
  it.live(
    "a starting server rejects a resume of changes that a restored backup does not have",
    () =>
      Effect.gen(function*() {
        const { url } = yield* newDatabase
        // The secrets are in the data directory, so that the high-water mark is kept there as well.
        const settings = {
          databaseUrl: Option.some(Redacted.make(url)),
          masterKey: Option.none(),
          dataDir: yield* temporaryDirectory
        }
        const before = yield* Effect.scoped(Effect.gen(function*() {
          const server = yield* makeServer(settings)
          const agent = yield* server.newAgent
          const client = yield* joinV1(server.wsPort, "agent", agent.apiKey)
          yield* client.expect("config")
          yield* server.newTunnel(agent.id)
          const { revision } = yield* client.expect("tunnel_create")
          return { agent, revision, timeline: client.success.data["timeline"] }
        }))
        const resume = { timeline: before.timeline, revision: before.revision }
        yield* Effect.scoped(Effect.gen(function*() {
          const server = yield* makeServer(settings)
          const client = yield* joinV1(server.wsPort, "agent", before.agent.apiKey, { resume })
          assert.isTrue(client.success.data["resumed"])
        }))
        yield* restore(url, before.agent.id, before.revision ?? 0)
        yield* Effect.scoped(Effect.gen(function*() {
          const server = yield* makeServer(settings)
          const client = yield* joinV1(server.wsPort, "agent", before.agent.apiKey, { resume })
          assert.isFalse(client.success.data["resumed"])
          assert.notStrictEqual(client.success.data["timeline"], before.timeline)
          assert.deepStrictEqual(Object.keys(viewFromConfig((yield* client.expect("config")).data).tunnels), ["other"])
        }))
      }),
    60_000
  )
})
