/** The event stream of /api/events. */
import { Events } from "#events/Events.ts"
import { ControlEvent } from "#schema/events.ts"
import { Revision, SessionId } from "#schema/ids.ts"
import { adminToken, newDatabase } from "#support/testDatabase.ts"
import { type EventFollower, followEvents } from "#support/EventFollower.ts"
import { makeServer, TestServer } from "#support/TestServer.ts"
import { assert, describe, it, layer } from "@effect/vitest"
import { Context, Effect, Exit, Fiber, Option, Redacted, Schema, Scope } from "effect"

const change = (revision: number) =>
  ({
    event: "change",
    data: { revision: Revision.make(revision), entityType: "tunnel", entityId: `t${revision}`, op: "put" }
  }) as const satisfies ControlEvent

/** Waits for the change with this revision. Earlier changes may still arrive after the stream has begun. */
const changeOf = (reader: EventFollower, revision: number) =>
  Effect.repeat(reader.nextNamed("change"), { until: ({ data }) => data.revision === revision })

const followServer = Effect.fnUntraced(function*(options: Parameters<typeof followEvents>[2] = {}) {
  const { apiUrl } = yield* TestServer
  return yield* followEvents(apiUrl, adminToken, options)
})

const publish = (event: ControlEvent) =>
  Effect.map(TestServer, ({ context }) => Context.get(context, Events).publishLocal(event))

layer(TestServer.layer(), { excludeTestServices: true })("events", (it) => {
  it.effect("a change event names revision and row of a committed change, and no contents", () =>
    Effect.gen(function*() {
      const { newAgent, newTunnel } = yield* TestServer
      const agent = yield* newAgent
      const reader = yield* followServer()
      assert.strictEqual(reader.status, 200)
      assert.match(reader.contentType ?? "", /^text\/event-stream/u)
      const tunnel = yield* newTunnel(agent.id)
      const { data } = yield* changeOf(reader, tunnel.revision)
      assert.deepStrictEqual(data, { revision: tunnel.revision, entityType: "tunnel", entityId: tunnel.id, op: "put" })
    }))

  it.effect("connecting and disconnecting clients create client.online and client.offline", () =>
    Effect.gen(function*() {
      const { joinAgent } = yield* TestServer
      const reader = yield* followServer()
      const agent = yield* joinAgent
      const online = yield* reader.nextNamed("client.online")
      assert.deepInclude(online.data, { clientType: "agent", clientId: agent.id, address: "127.0.0.1", level: "plain" })
      agent.client.ws.close()
      const offline = yield* reader.nextNamed("client.offline")
      assert.deepStrictEqual(offline.data, online.data)
    }))

  it.effect("every event matches its schema and arrives in the order of publication", () =>
    Effect.gen(function*() {
      const reader = yield* followServer()
      const client = { clientType: "gateway", clientId: "edge\n1" } as const
      const connection = { ...client, session: SessionId.make("s"), address: "::1", level: "control.v1" }
      const published: ReadonlyArray<ControlEvent> = [
        { event: "client.online", data: connection },
        { event: "ack", data: { ...client, revision: Revision.make(3) } },
        {
          event: "nack",
          data: { ...client, revision: Revision.make(4), code: "bad", message: "line\nbreak", tunnelId: "t" }
        },
        { event: "client.offline", data: connection }
      ]
      for (const event of published) yield* publish(event)
      for (const event of published) {
        const { data, event: name } = yield* reader.next
        assert.deepStrictEqual(yield* Schema.decodeUnknownEffect(ControlEvent)({ event: name, data }), event)
      }
    }))

  it.effect("a reader that reconnects with the last event id gets every later event exactly once", () =>
    Effect.gen(function*() {
      const first = yield* Effect.scoped(Effect.gen(function*() {
        const reader = yield* followServer()
        yield* publish(change(101))
        yield* publish(change(102))
        const seen = yield* reader.nextNamed("change")
        assert.strictEqual(seen.data.revision, 101)
        return seen.id
      }))
      yield* publish(change(103))
      for (const options of [{ lastEventId: first }, { query: `?lastEventId=${first}` }]) {
        const reader = yield* followServer(options)
        assert.strictEqual(reader.firstId, first)
        assert.deepStrictEqual([(yield* reader.next).data.revision, (yield* reader.next).data.revision], [102, 103])
      }
    }))

  it.effect("a reader that reconnects before its first event misses none", () =>
    Effect.gen(function*() {
      const { firstId: from } = yield* Effect.scoped(followServer())
      yield* publish(change(201))
      const reader = yield* followServer({ lastEventId: from })
      assert.strictEqual((yield* reader.next).data.revision, 201)
    }))

  it.effect("an unknown event id is answered by a reset and then by new events", () =>
    Effect.gen(function*() {
      for (const lastEventId of ["nonsense", "a.b.c", "x.999999999999999.999999999999999", "...", "0"]) {
        const reader = yield* followServer({ lastEventId })
        assert.strictEqual((yield* reader.next).event, "reset", lastEventId)
        yield* publish(change(301))
        assert.strictEqual((yield* reader.next).event, "change")
      }
      const { operator } = yield* TestServer
      const tooLong = yield* Effect.promise(() => operator.get("/api/events", { "last-event-id": "x".repeat(300) }))
      assert.deepInclude(tooLong.body.errors[0], { in: "header", path: "last-event-id" })
    }))

  it.effect(
    "one token gets half of the event streams, tokens of the role admin the last ones, and further streams get 503",
    () =>
      Effect.gen(function*() {
        const { apiUrl, operator } = yield* TestServer
        assert.strictEqual((yield* Effect.scoped(followEvents(apiUrl, "wrong"))).status, 401)
        const newToken = (role: string) =>
          Effect.promise(async () => (await operator.post("/api/tokens", { name: role, role })).body.token as string)
        const scope = yield* Scope.make()
        const countAccepted = Effect.fnUntraced(function*(token: string) {
          const readers = yield* Scope.provide(
            Effect.all(Array.from({ length: 60 }, () => followEvents(apiUrl, token)), { concurrency: "unbounded" }),
            scope
          )
          const rejected = readers.filter(({ status }) => status === 503)
          assert.strictEqual(rejected[0]?.contentType, "application/problem+json")
          return readers.length - rejected.length
        })
        const greedy = yield* countAccepted(yield* newToken("read"))
        const other = yield* countAccepted(yield* newToken("operate"))
        assert.deepStrictEqual([greedy, other, yield* countAccepted(adminToken)], [50, 40, 10])
        yield* Scope.close(scope, Exit.void)
        // Slots are free again as soon as the server has noticed the closed connections.
        yield* Effect.scoped(
          Effect.repeat(Effect.map(followServer(), ({ status }) => status), { until: (status) => status === 200 })
        )
      }),
    60_000
  )
})

describe("event stream", () => {
  it.live(
    "after a restart the stream sends a reset, the missed changes, and then new events",
    () =>
      Effect.gen(function*() {
        const { url } = yield* newDatabase
        const settings = { databaseUrl: Option.some(Redacted.make(url)) }
        const key = Option.some(Redacted.make(Buffer.alloc(32, 1).toString("base64")))
        const [seen, agent, missed] = yield* Effect.scoped(Effect.gen(function*() {
          const server = yield* makeServer({ ...settings, masterKey: key })
          const reader = yield* followEvents(server.apiUrl, adminToken)
          const agent = yield* server.newAgent
          const { id } = yield* reader.nextNamed("change")
          return [id, agent, yield* server.newTunnel(agent.id)] as const
        }))
        const server = yield* makeServer({ ...settings, masterKey: key })
        const reader = yield* followEvents(server.apiUrl, adminToken, { lastEventId: seen })
        const reset = yield* reader.next
        assert.strictEqual(reset.event, "reset")
        const changes = [yield* reader.next, yield* reader.next]
        assert.deepStrictEqual(changes.map(({ data }) => data.entityType), ["key", "tunnel"])
        assert.strictEqual(changes[1]?.data.revision, missed.revision)
        // A reader that is disconnected between the missed changes continues there.
        const again = yield* followEvents(server.apiUrl, adminToken, { lastEventId: changes[0]?.id ?? "" })
        assert.strictEqual((yield* again.next).event, "reset")
        assert.deepStrictEqual((yield* again.next).data, changes[1]?.data)
        const next = yield* server.newTunnel(agent.id)
        assert.strictEqual((yield* reader.nextNamed("change")).data.revision, next.revision)
        const last = yield* again.nextNamed("change")
        assert.strictEqual(last.data.revision, next.revision)
        const complete = yield* followEvents(server.apiUrl, adminToken, { lastEventId: last.id })
        assert.strictEqual(complete.firstId, last.id)
      }).pipe(Effect.scoped),
    60_000
  )

  it.live("the event stream ends completely within 1.5 s when the server stops", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const server = yield* Scope.provide(makeServer(), scope)
      const reader = yield* followEvents(server.apiUrl, adminToken)
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      assert.strictEqual(yield* Effect.timeout(reader.ended, "1500 millis"), "complete")
      yield* Fiber.join(closing)
    }).pipe(Effect.scoped), 30_000)

  it.live(
    "a slow reader delays no other reader, and gets a reset when it reads again",
    () =>
      Effect.gen(function*() {
        const server = yield* makeServer()
        const events = Context.get(server.context, Events)
        const [slow, quick] = [
          yield* followEvents(server.apiUrl, adminToken),
          yield* followEvents(server.apiUrl, adminToken)
        ]
        slow.pause()
        const nack = (revision: number): ControlEvent => ({
          event: "nack",
          data: {
            clientType: "agent",
            clientId: "home",
            revision: Revision.make(revision),
            code: "x",
            message: "m".repeat(2_000)
          }
        })
        // More than the socket buffers and the event buffer hold.
        let published = 0
        for (let round = 0; round < 20; round += 1) {
          for (let index = 0; index < 1_000; index += 1) events.publishLocal(nack(published += 1))
          yield* Effect.repeat(quick.next, { until: ({ data }) => data.revision === published })
        }
        slow.resume()
        const reset = yield* slow.nextNamed("reset")
        assert.include(reset.data.reason, "faster")
        events.publishLocal(nack(published += 1))
        assert.strictEqual((yield* slow.next).data.revision, published)
      }).pipe(Effect.scoped),
    60_000
  )
})
