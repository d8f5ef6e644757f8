/** Several nodes on one database: takeover, lost nodes, drain, over real sockets. */
import { ChangeLog } from "#store/ChangeLog.ts"
import { ReservedPool } from "#store/ReservedPool.ts"
import { adminToken, newDatabase } from "#support/testDatabase.ts"
import { type EventFollower, followEvents } from "#support/EventFollower.ts"
import { startFastServer } from "#support/serverProcess.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { fastIntervals } from "#support/fastIntervals.ts"
import { makeServer as makeServerWith } from "#support/TestServer.ts"
import { connect, join } from "#support/TestClient.ts"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Option, Redacted, Schema, Scope } from "effect"
import { SqlClient } from "effect/sql"
import { randomBytes } from "node:crypto"

type Server = Effect.Success<ReturnType<typeof makeServerWith>>

const makeServer = (settings: Parameters<typeof makeServerWith>[0]) => makeServerWith(settings, fastIntervals)

const masterKey = randomBytes(32).toString("base64")

const shared = Effect.map(newDatabase, ({ url }) => ({
  url,
  settings: { databaseUrl: Option.some(Redacted.make(url)), masterKey: Option.some(Redacted.make(masterKey)) }
}))

const Rows = Schema.Array(Schema.Struct({ definition: Schema.String }))

/** Removes the notification from the trigger of changes. */
const disableNotifications = (sql: SqlClient.SqlClient) =>
  Effect.gen(function*() {
    const [row] = Schema.decodeUnknownSync(Rows)(
      yield* sql`select pg_get_functiondef(oid) as definition from pg_proc where proname = 'control_append_change'`
    )
    yield* sql.unsafe(row?.definition.replace("perform pg_notify('control_changes', '')", "perform 1") ?? "")
  })

const sqlOf = (server: Server) => Context.get(server.context, SqlClient.SqlClient)

/** The status of an agent in its row and in the API of this node. */
const statusAt = (server: Server, id: string) =>
  Effect.gen(function*() {
    const [row] = yield* sqlOf(server)`select status from agents where id = ${id}`
    const { body } = yield* Effect.promise(() => server.operator.get(`/api/agents/${id}`))
    return `${String(row?.["status"])} ${String(body.status)}`
  })

const until = <A, E, R>(effect: Effect.Effect<A, E, R>, wanted: A) =>
  Effect.repeat(effect, { until: (found) => found === wanted })

/** Waits for the first touch of a client; a silent client is not touched again. */
const untilTouched = (sql: SqlClient.SqlClient, id: string) =>
  Effect.repeat(sql`select 1 from agents where id = ${id} and sent_revision is not null`, {
    until: (rows) => rows.length > 0
  })

const statesOf = (server: Server) =>
  Effect.promise(() => server.operator.get("/api/nodes")).pipe(
    Effect.map(({ body }) =>
      body.items.map(({ name, state }: { readonly name: string; readonly state: string }) => `${name} ${state}`).join()
    )
  )

/** Clients whose `client.offline` this follower got before a change that is made as a marker. */
const offlineEventsOf = Effect.fnUntraced(function*(follower: EventFollower, server: Server) {
  const { id } = yield* server.newAgent
  const clients: Array<unknown> = []
  while (true) {
    const { data, event } = yield* follower.next
    if (event === "client.offline") clients.push(data.clientId)
    if (event === "change" && data.entityId === id) return clients
  }
})

const clientsOf = (server: Server, node: string) =>
  Effect.promise(() => server.operator.get("/api/nodes")).pipe(
    Effect.map(({ body }): number => body.items.find(({ name }: { readonly name: string }) => name === node)?.clients)
  )

describe("several nodes", () => {
  it.live("a node that starts ends no lease of another node", () =>
    Effect.gen(function*() {
      const { settings } = yield* shared
      const first = yield* makeServer({ ...settings, nodeName: "first" })
      const sql = sqlOf(first)
      yield* sql`insert into nodes (id, name, version, clients, revision, lease_until)
        values ('silent', 'silent', '0.0.0', 0, 0, now() + interval '1 day')`
      yield* makeServer({ ...settings, nodeName: "second" })
      assert.lengthOf(
        yield* sql`select 1 from nodes where id = 'silent' and lease_until > now() + interval '1 hour'`,
        1
      )
    }))

  it.live(
    "a client that connects to another node takes its old session over, even without notifications",
    () =>
      Effect.gen(function*() {
        const { settings } = yield* shared
        const one = yield* makeServer({ ...settings, nodeName: "one" })
        const other = yield* makeServer({ ...settings, nodeName: "other" })
        yield* disableNotifications(sqlOf(one))
        const { apiKey, client, id } = yield* one.joinAgent
        yield* untilTouched(sqlOf(one), id)
        const second = yield* join(other.wsPort, "agent", apiKey)
        // A silent client is not touched, so that its node learns of the takeover from the mailbox.
        assert.strictEqual((yield* client.closed).code, 4409)
        assert.strictEqual(yield* statusAt(one, id), "online online")
        assert.strictEqual(second.ws.readyState, second.ws.OPEN)
        assert.strictEqual(yield* statesOf(other), "one live,other live")
        for (const server of [one, other]) {
          const { body } = yield* Effect.promise(() => server.operator.get("/api/clients"))
          assert.deepStrictEqual(
            body.items.map((
              { clientId, node }: { readonly clientId: string; readonly node: string }
            ) => [clientId, node]),
            [[id, "other"]]
          )
        }
      }),
    30_000
  )

  it.live(
    "a key that is revoked at one node closes its client at another node, even without notifications",
    () =>
      Effect.gen(function*() {
        const { settings } = yield* shared
        const one = yield* makeServer(settings)
        const other = yield* makeServer(settings)
        yield* disableNotifications(sqlOf(one))
        const { client, id } = yield* one.joinAgent
        const { body } = yield* Effect.promise(() => other.operator.get(`/api/agents/${id}/keys`))
        yield* Effect.promise(() => other.operator.delete(`/api/agents/${id}/keys/${body.items[0].id}`))
        assert.strictEqual((yield* client.closed).code, 4403)
      }),
    30_000
  )

  it.live(
    "a live node shows the clients of a killed node offline, and accepts them",
    () =>
      Effect.gen(function*() {
        const { settings, url } = yield* shared
        const one = yield* makeServer({ ...settings, nodeName: "one" })
        const { apiKey, id } = yield* one.newAgent
        const doomed = yield* startFastServer({
          DATABASE_URL: url,
          CONTROL_MASTER_KEY: masterKey,
          CONTROL_ADMIN_TOKEN: "ctl_adm_of-the-other",
          CONTROL_DATA_DIR: yield* temporaryDirectory,
          CONTROL_NODE_NAME: "doomed"
        })
        yield* join(doomed.wsPort, "agent", apiKey)
        assert.strictEqual(yield* statusAt(one, id), "online online")
        const follower = yield* followEvents(one.apiUrl, adminToken)
        yield* until(clientsOf(one, "doomed"), 1)
        doomed.signal("SIGKILL")
        // The API shows the client offline when the lease expires, before the sweep writes the row.
        yield* until(
          Effect.map(sqlOf(one)`select status from agents where id = ${id}`, ([row]) => row?.["status"]),
          "offline"
        )
        yield* until(statusAt(one, id), "offline offline")
        assert.deepStrictEqual(yield* offlineEventsOf(follower, one), [id])
        assert.strictEqual(yield* statesOf(one), "one live,doomed lost")
        assert.strictEqual(yield* clientsOf(one, "doomed"), 0)
        const client = yield* join(one.wsPort, "agent", apiKey)
        assert.strictEqual(yield* statusAt(one, id), "online online")
        assert.strictEqual(client.ws.readyState, client.ws.OPEN)
      }),
    60_000
  )

  it.live(
    "a stalled node shows all of its clients online again when it continues",
    () =>
      Effect.gen(function*() {
        const { settings, url } = yield* shared
        const one = yield* makeServer({ ...settings, nodeName: "one" })
        const { apiKey, id } = yield* one.newAgent
        const stalled = yield* startFastServer({
          DATABASE_URL: url,
          CONTROL_MASTER_KEY: masterKey,
          CONTROL_ADMIN_TOKEN: "ctl_adm_of-the-other",
          CONTROL_DATA_DIR: yield* temporaryDirectory,
          CONTROL_NODE_NAME: "stalled"
        })
        const client = yield* join(stalled.wsPort, "agent", apiKey)
        yield* untilTouched(sqlOf(one), id)
        stalled.signal("SIGSTOP")
        yield* until(statusAt(one, id), "offline offline")
        stalled.signal("SIGCONT")
        // The client was silent during the stall, and is not closed for it.
        yield* until(statusAt(one, id), "online online")
        assert.strictEqual(client.ws.readyState, client.ws.OPEN)
      }),
    60_000
  )

  it.live(
    "a client that reconnects after its node stops stays online; a client that does not reconnect goes offline later",
    () =>
      Effect.gen(function*() {
        const { settings } = yield* shared
        const one = yield* makeServer(settings)
        const scope = yield* Scope.make()
        const stopping = yield* Scope.provide(makeServer(settings), scope)
        const [back, lost] = [yield* stopping.joinAgent, yield* stopping.joinAgent]
        const follower = yield* followEvents(one.apiUrl, adminToken)
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual((yield* back.client.closed).code, 1012)
        for (const { id } of [back, lost]) assert.strictEqual(yield* statusAt(one, id), "online online")
        yield* join(one.wsPort, "agent", back.apiKey)
        yield* until(statusAt(one, lost.id), "offline offline")
        assert.strictEqual(yield* statusAt(one, back.id), "online online")
        assert.deepStrictEqual(yield* offlineEventsOf(follower, one), [lost.id])
      }),
    60_000
  )

  it.live("the last node marks its clients offline at once when it stops", () =>
    Effect.gen(function*() {
      const { settings } = yield* shared
      const scope = yield* Scope.make()
      const last = yield* Scope.provide(makeServer(settings), scope)
      const { id } = yield* last.joinAgent
      yield* Scope.close(scope, Exit.void)
      const reader = yield* makeServer(settings)
      assert.strictEqual(yield* statusAt(reader, id), "offline offline")
    }), 30_000)

  it.live(
    "statements that occupy every other database connection delay neither logins nor changes nor presence",
    () =>
      Effect.gen(function*() {
        const { settings } = yield* shared
        const one = yield* makeServer(settings)
        const [before, after] = [yield* one.joinAgent, yield* one.newAgent]
        const sql = sqlOf(one)
        const sleepers = Array.from({ length: 20 }, () => sql.withTransaction(sql`select pg_sleep(9)`))
        yield* Effect.forkScoped(Effect.ignore(Effect.all(sleepers, { concurrency: "unbounded" })))
        const reserved = Context.get(one.context, ReservedPool)
        const sleeping = Effect.map(
          reserved`select 1 from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'`,
          (rows) => rows.length
        )
        yield* until(sleeping, 10)
        const newcomer = yield* join(one.wsPort, "agent", after.apiKey)
        const stranger = yield* connect(one.wsPort, "?type=agent")
        stranger.send({ type: "auth", data: { apiKey: "ctl_agt_unknown" } })
        assert.strictEqual((yield* stranger.closed).code, 4401)
        for (const [{ client }, id] of [[before, before.id], [{ client: newcomer }, after.id]] as const) {
          yield* reserved`insert into tunnels (agent_id, domain, target) values (${id}, ${`${id}.example.com`}, 'localhost:1')`
          assert.strictEqual((yield* client.expect("tunnel_create")).data.domain, `${id}.example.com`)
          yield* untilTouched(reserved, id)
        }
        for (const path of ["/healthz", "/readyz"]) {
          assert.strictEqual((yield* Effect.promise(() => fetch(`${one.apiUrl}${path}`))).status, 200)
        }
        yield* Context.get(one.context, ChangeLog).sendProbe
        assert.isAbove(yield* sleeping, 0, "all of this happened while the statements ran")
      }),
    30_000
  )
})
