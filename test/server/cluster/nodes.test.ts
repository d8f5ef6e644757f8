/** README, "One node or several": two whole servers on one database, over real sockets. */
import { ChangeLog } from "#store/ChangeLog.ts"
import { ReservedPool } from "#store/ReservedPool.ts"
import { adminToken, newDatabase } from "#support/database.ts"
import { type EventFollower, follow } from "#support/EventFollower.ts"
import { start, temporaryDirectory } from "#support/process.ts"
import { makeServer } from "#support/server.ts"
import { connect, join } from "#support/TestClient.ts"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Option, Redacted, Schema, Scope } from "effect"
import { SqlClient } from "effect/sql"
import { randomBytes } from "node:crypto"

type Server = Effect.Success<ReturnType<typeof makeServer>>

const masterKey = randomBytes(32).toString("base64")

const shared = Effect.map(newDatabase, ({ url }) => ({
  url,
  settings: { databaseUrl: Option.some(Redacted.make(url)), masterKey: Option.some(Redacted.make(masterKey)) }
}))

const Rows = Schema.Array(Schema.Struct({ definition: Schema.String }))

/** From now on no change is notified: nobody is woken up. */
const loseNotifications = (sql: SqlClient.SqlClient) =>
  Effect.gen(function*() {
    const [row] = Schema.decodeUnknownSync(Rows)(
      yield* sql`select pg_get_functiondef(oid) as definition from pg_proc where proname = 'control_append_change'`
    )
    yield* sql.unsafe(row?.definition.replace("perform pg_notify('control_changes', '')", "perform 1") ?? "")
  })

const sqlOf = (server: Server) => Context.get(server.context, SqlClient.SqlClient)

/** The column as any application sees it, and the API of this node. */
const seenBy = (server: Server, id: string) =>
  Effect.gen(function*() {
    const [row] = yield* sqlOf(server)`select status from agents where id = ${id}`
    const { body } = yield* Effect.promise(() => server.operator.get(`/api/agents/${id}`))
    return `${String(row?.["status"])} ${String(body.status)}`
  })

const until = <A, E, R>(effect: Effect.Effect<A, E, R>, wanted: A) =>
  Effect.repeat(effect, { until: (found) => found === wanted })

/** Not before it was touched: from then on a silent client is not touched again. */
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

/** Of whom the follower was told that they are offline, up to a change that is made for that. */
const offlineTo = Effect.fnUntraced(function*(follower: EventFollower, server: Server) {
  const { id } = yield* server.newAgent
  const told: Array<unknown> = []
  while (true) {
    const { data, event } = yield* follower.next
    if (event === "client.offline") told.push(data.clientId)
    if (event === "change" && data.entityId === id) return told
  }
})

const clientsOf = (server: Server, node: string) =>
  Effect.promise(() => server.operator.get("/api/nodes")).pipe(
    Effect.map(({ body }): number => body.items.find(({ name }: { readonly name: string }) => name === node)?.clients)
  )

describe("several nodes", () => {
  it.live(
    "a client that comes to another node takes its old session over, although nobody is notified",
    () =>
      Effect.gen(function*() {
        const { settings } = yield* shared
        const one = yield* makeServer({ ...settings, nodeName: "one" })
        const other = yield* makeServer({ ...settings, nodeName: "other" })
        yield* loseNotifications(sqlOf(one))
        const { apiKey, client, id } = yield* one.joinAgent
        yield* untilTouched(sqlOf(one), id)
        const second = yield* join(other.wsPort, "agent", apiKey)
        // It is silent, so it is not touched: its node knows it from the mailbox.
        assert.strictEqual((yield* client.closed).code, 4409)
        assert.strictEqual(yield* seenBy(one, id), "online online")
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
    "a key that is revoked at one node closes its client at the other, although nobody is notified",
    () =>
      Effect.gen(function*() {
        const { settings } = yield* shared
        const one = yield* makeServer(settings)
        const other = yield* makeServer(settings)
        yield* loseNotifications(sqlOf(one))
        const { client, id } = yield* one.joinAgent
        const { body } = yield* Effect.promise(() => other.operator.get(`/api/agents/${id}/keys`))
        yield* Effect.promise(() => other.operator.delete(`/api/agents/${id}/keys/${body.items[0].id}`))
        assert.strictEqual((yield* client.closed).code, 4403)
      }),
    30_000
  )

  it.live(
    "the clients of a killed node are shown offline by the one that lives, and are welcome there",
    () =>
      Effect.gen(function*() {
        const { settings, url } = yield* shared
        const one = yield* makeServer({ ...settings, nodeName: "one" })
        const { apiKey, id } = yield* one.newAgent
        const doomed = yield* start({
          DATABASE_URL: url,
          CONTROL_MASTER_KEY: masterKey,
          CONTROL_ADMIN_TOKEN: "ctl_adm_of-the-other",
          CONTROL_DATA_DIR: yield* temporaryDirectory,
          CONTROL_NODE_NAME: "doomed"
        })
        yield* join(doomed.wsPort, "agent", apiKey)
        assert.strictEqual(yield* seenBy(one, id), "online online")
        const follower = yield* follow(one.apiUrl, adminToken)
        yield* until(clientsOf(one, "doomed"), 1)
        doomed.signal("SIGKILL")
        // By its lease it is offline before it is swept.
        yield* until(
          Effect.map(sqlOf(one)`select status from agents where id = ${id}`, ([row]) => row?.["status"]),
          "offline"
        )
        yield* until(seenBy(one, id), "offline offline")
        assert.deepStrictEqual(yield* offlineTo(follower, one), [id])
        assert.strictEqual(yield* statesOf(one), "one live,doomed lost")
        assert.strictEqual(yield* clientsOf(one, "doomed"), 0)
        const client = yield* join(one.wsPort, "agent", apiKey)
        assert.strictEqual(yield* seenBy(one, id), "online online")
        assert.strictEqual(client.ws.readyState, client.ws.OPEN)
      }),
    60_000
  )

  it.live(
    "a node that stood still comes back, and all of its clients are shown online again",
    () =>
      Effect.gen(function*() {
        const { settings, url } = yield* shared
        const one = yield* makeServer({ ...settings, nodeName: "one" })
        const { apiKey, id } = yield* one.newAgent
        const stalled = yield* start({
          DATABASE_URL: url,
          CONTROL_MASTER_KEY: masterKey,
          CONTROL_ADMIN_TOKEN: "ctl_adm_of-the-other",
          CONTROL_DATA_DIR: yield* temporaryDirectory,
          CONTROL_NODE_NAME: "stalled"
        })
        const client = yield* join(stalled.wsPort, "agent", apiKey)
        yield* untilTouched(sqlOf(one), id)
        stalled.signal("SIGSTOP")
        yield* until(seenBy(one, id), "offline offline")
        stalled.signal("SIGCONT")
        // Silent all the while, and not evicted.
        yield* until(seenBy(one, id), "online online")
        assert.strictEqual(client.ws.readyState, client.ws.OPEN)
      }),
    60_000
  )

  it.live(
    "who comes back at once from a node that stops is never shown offline; who does not come is, a little later",
    () =>
      Effect.gen(function*() {
        const { settings } = yield* shared
        const one = yield* makeServer(settings)
        const scope = yield* Scope.make()
        const leaving = yield* Scope.provide(makeServer(settings), scope)
        const [back, lost] = [yield* leaving.joinAgent, yield* leaving.joinAgent]
        const follower = yield* follow(one.apiUrl, adminToken)
        yield* Scope.close(scope, Exit.void)
        assert.strictEqual((yield* back.client.closed).code, 1012)
        for (const { id } of [back, lost]) assert.strictEqual(yield* seenBy(one, id), "online online")
        yield* join(one.wsPort, "agent", back.apiKey)
        yield* until(seenBy(one, lost.id), "offline offline")
        assert.strictEqual(yield* seenBy(one, back.id), "online online")
        assert.deepStrictEqual(yield* offlineTo(follower, one), [lost.id])
      }),
    60_000
  )

  it.live("the last node that stops says at once who is offline", () =>
    Effect.gen(function*() {
      const { settings } = yield* shared
      const scope = yield* Scope.make()
      const last = yield* Scope.provide(makeServer(settings), scope)
      const { id } = yield* last.joinAgent
      yield* Scope.close(scope, Exit.void)
      const reader = yield* makeServer(settings)
      assert.strictEqual(yield* seenBy(reader, id), "offline offline")
    }), 30_000)

  it.live(
    "statements that take every other connection keep nobody out, and hold up neither changes nor heartbeats",
    () =>
      Effect.gen(function*() {
        const { settings } = yield* shared
        const one = yield* makeServer(settings)
        const [before, after] = [yield* one.joinAgent, yield* one.newAgent]
        const sql = sqlOf(one)
        const sleepers = Array.from({ length: 20 }, () => sql.withTransaction(sql`select pg_sleep(9)`))
        yield* Effect.forkScoped(Effect.ignore(Effect.all(sleepers, { concurrency: "unbounded" })))
        const vital = Context.get(one.context, ReservedPool)
        const asleep = Effect.map(
          vital`select 1 from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'`,
          (rows) => rows.length
        )
        yield* until(asleep, 10)
        const come = yield* join(one.wsPort, "agent", after.apiKey)
        const stranger = yield* connect(one.wsPort, "?type=agent")
        stranger.send({ type: "auth", data: { apiKey: "ctl_agt_of-nobody" } })
        assert.strictEqual((yield* stranger.closed).code, 4401)
        for (const [{ client }, id] of [[before, before.id], [{ client: come }, after.id]] as const) {
          yield* vital`insert into tunnels (agent_id, domain, target) values (${id}, ${`${id}.example.com`}, 'localhost:1')`
          assert.strictEqual((yield* client.expect("tunnel_create")).data.domain, `${id}.example.com`)
          yield* untilTouched(vital, id)
        }
        for (const path of ["/healthz", "/readyz"]) {
          assert.strictEqual((yield* Effect.promise(() => fetch(`${one.apiUrl}${path}`))).status, 200)
        }
        yield* Context.get(one.context, ChangeLog).sendProbe
        assert.isAbove(yield* asleep, 0, "all of that has gone on beside them")
      }),
    30_000
  )
})
