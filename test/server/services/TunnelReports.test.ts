/** Buffering, batching and storing of tunnel status reports. */
import { AgentId, SessionId } from "#schema/ids.ts"
import { ReportStore, type TunnelStatusReport } from "#store/ReportStore.ts"
import { StoreUnavailable } from "#store/sql.ts"
import { join } from "#support/TestClient.ts"
import { TestServer } from "#support/TestServer.ts"
import { Events } from "#events/Events.ts"
import { EventStore } from "#store/EventStore.ts"
import { Network } from "#feed/Network.ts"
import { TunnelReports } from "#services/TunnelReports.ts"
import { assert, describe, it, layer } from "@effect/vitest"
import { Context, Deferred, Effect, Layer, Queue } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"

const agent = AgentId.make("a1")
const reporter = { client: { type: "agent" as const, id: agent }, session: SessionId.make("s1") }

/** Replaces the store: each write waits until the test completes its `end`. */
const makeStore = Effect.gen(function*() {
  const writes = yield* Queue.unbounded<
    { reports: ReadonlyArray<TunnelStatusReport>; end: Deferred.Deferred<number, StoreUnavailable> }
  >()
  const store = Layer.mock(ReportStore)({
    recordAgentReports: (reports) =>
      Effect.gen(function*() {
        const end = yield* Deferred.make<number, StoreUnavailable>()
        yield* Queue.offer(writes, { reports, end })
        return yield* Deferred.await(end)
      })
  })
  const next = Queue.take(writes)
  return {
    writes,
    next,
    layer: TunnelReports.layer.pipe(
      Layer.provide([store, Events.layer.pipe(Layer.provide(Layer.mock(EventStore)({}))), Layer.mock(Network)({})])
    )
  }
})

const statuses = (reports: ReadonlyArray<TunnelStatusReport>) => reports.map(({ domain, status }) => [domain, status])

describe("tunnel status reports", () => {
  it.effect("a report is written at once; reports during a write form one batch, and the latest wins", () =>
    Effect.gen(function*() {
      const { layer, next } = yield* makeStore
      yield* Effect.gen(function*() {
        const { report } = yield* TunnelReports
        yield* report(reporter, { tunnels: [{ domain: "a.example.com", status: "starting" }] })
        const first = yield* next
        assert.deepStrictEqual(statuses(first.reports), [["a.example.com", "starting"]])
        yield* report(reporter, {
          tunnels: [{ domain: "a.example.com", status: "active" }, {
            domain: "b.example.com",
            status: "active"
          }]
        })
        yield* report(reporter, { tunnels: [{ domain: "B.example.com", status: "error" }] })
        yield* Deferred.succeed(first.end, 1)
        const second = yield* next
        assert.deepStrictEqual(statuses(second.reports), [["a.example.com", "active"], ["b.example.com", "error"]])
      }).pipe(Effect.provide(layer))
    }))

  it.effect("reports wait while the database is unreachable, and are written with their age", () =>
    Effect.gen(function*() {
      const { layer, next } = yield* makeStore
      yield* Effect.gen(function*() {
        const { report } = yield* TunnelReports
        yield* report(reporter, { tunnels: [{ domain: "a.example.com", status: "active" }] })
        yield* Deferred.fail((yield* next).end, new StoreUnavailable({ reason: "unreachable" }))
        yield* TestClock.adjust("1 second")
        yield* report(reporter, { tunnels: [{ domain: "b.example.com", status: "active" }] })
        yield* Deferred.fail((yield* next).end, new StoreUnavailable({ reason: "unreachable" }))
        yield* TestClock.adjust("1 second")
        const { reports } = yield* next
        assert.deepStrictEqual(reports.map(({ ageMillis, domain }) => [domain, ageMillis]), [["a.example.com", 2_000], [
          "b.example.com",
          1_000
        ]])
      }).pipe(Effect.provide(layer))
    }))

  it.effect("a batch that the database cannot store is dropped, and later reports are written", () =>
    Effect.gen(function*() {
      const { layer, next } = yield* makeStore
      yield* Effect.gen(function*() {
        const { report } = yield* TunnelReports
        yield* report(reporter, { tunnels: [{ domain: "a.example.com", status: "active" }] })
        yield* Deferred.die((yield* next).end, new Error("cannot be stored"))
        yield* Effect.yieldNow
        yield* report(reporter, { tunnels: [{ domain: "b.example.com", status: "active" }] })
        assert.deepStrictEqual(statuses((yield* next).reports), [["b.example.com", "active"]])
      }).pipe(Effect.provide(layer))
    }))

  it.effect("one agent displaces its own reports only, and has at most 10,000 pending", () =>
    Effect.gen(function*() {
      const { layer, next } = yield* makeStore
      yield* Effect.gen(function*() {
        const { report } = yield* TunnelReports
        yield* report(reporter, { tunnels: [{ domain: "on-its-way.example.com", status: "active" }] })
        const first = yield* next
        yield* report(reporter, { tunnels: [{ domain: "quiet.example.com", status: "active" }] })
        const greedy = { ...reporter, client: { type: "agent" as const, id: AgentId.make("greedy") } }
        const domains = Array.from({ length: 101_000 }, (_, index) => ({ domain: `t${index}`, status: "active" }))
        yield* report(greedy, { tunnels: domains })
        yield* Deferred.succeed(first.end, 1)
        const written: Array<string | null> = []
        while (written.length < 10_001) {
          const { end, reports } = yield* next
          written.push(...reports.map(({ domain }) => domain))
          yield* Deferred.succeed(end, reports.length)
        }
        assert.deepStrictEqual(written.slice(0, 2), ["quiet.example.com", "t91000"])
        assert.strictEqual(written.length, 10_001)
      }).pipe(Effect.provide(layer))
    }))

  it.effect("at most 100,000 reports are pending, and the oldest are dropped", () =>
    Effect.gen(function*() {
      const { layer, next } = yield* makeStore
      yield* Effect.gen(function*() {
        const { report } = yield* TunnelReports
        yield* report(reporter, { tunnels: [{ domain: "on-its-way.example.com", status: "active" }] })
        const first = yield* next
        for (let batch = 0; batch < 101; batch += 1) {
          const tunnels = Array.from(
            { length: 1_000 },
            (_, index) => ({ domain: `t${batch * 1_000 + index}`, status: "active" })
          )
          yield* report({ ...reporter, client: { type: "agent", id: AgentId.make(`a${batch % 20}`) } }, { tunnels })
        }
        yield* Deferred.succeed(first.end, 1)
        let written = 0
        let oldest = ""
        while (written < 100_000) {
          const { end, reports } = yield* next
          oldest ||= reports[0]?.domain ?? ""
          written += reports.length
          yield* Deferred.succeed(end, reports.length)
        }
        assert.strictEqual(written, 100_000)
        assert.strictEqual(oldest, "t1000")
      }).pipe(Effect.provide(layer))
    }))
})

layer(TestServer.layer(), { excludeTestServices: true })("tunnel status of agents", (it) => {
  it.effect("a status appears on the agent's own tunnels only, and a repeated status writes nothing", () =>
    Effect.gen(function*() {
      const { joinAgent, newTunnel, operator } = yield* TestServer
      const { client, id } = yield* joinAgent
      const otherAgent = yield* joinAgent
      const tunnel = yield* newTunnel(id)
      const shown = Effect.promise(async () => (await operator.get(`/api/tunnels/${tunnel.id}`)).body)
      const sendStatus = (sender: typeof client, status: string) =>
        sender.send({
          type: "status",
          data: { tunnels: [{ domain: tunnel.domain, status }, { domain: "other.example.com", status: "nul\0" }] }
        })
      const reportedAs = (status: string) =>
        Effect.repeat(shown, { until: ({ reported }) => reported?.status === status })

      sendStatus(otherAgent.client, "hijacked")
      sendStatus(client, "active")
      const active = yield* reportedAs("active")
      const { clients: _, ...row } = active
      assert.deepStrictEqual({ ...row, reported: null }, { ...tunnel, reported: null })

      sendStatus(client, "active")
      sendStatus(client, "error")
      const broken = yield* reportedAs("error")
      assert.isAtLeast(Date.parse(broken.reported.at), Date.parse(active.reported.at))
      assert.strictEqual(broken.revision, tunnel.revision)
    }))

  it.effect("a status is written once, and never for a tunnel of another agent", () =>
    Effect.gen(function*() {
      const { context, joinAgent, newTunnel } = yield* TestServer
      const { id } = yield* joinAgent
      const { domain } = yield* newTunnel(id)
      const { recordAgentReports: report } = yield* Effect.provide(ReportStore, context)
      const [{ session } = { session: "" }] = yield* Context.get(context, SqlClient.SqlClient)<{ session: string }>`
        select session_id as session from agents where id = ${id}`
      const reports = [{
        client: { type: "agent" as const, id: AgentId.make(id) },
        session: SessionId.make(session),
        id: null,
        domain,
        status: "active",
        detail: null,
        revision: null,
        ageMillis: 0
      }]
      assert.strictEqual(yield* report(reports.map((one) => ({ ...one, session: reporter.session }))), 0)
      assert.strictEqual(yield* report(reports), 1)
      assert.strictEqual(yield* report(reports), 0)
      assert.strictEqual(yield* report(reports.map((one) => ({ ...one, ...reporter, status: "hijacked" }))), 0)
    }))

  it.effect("a status disappears with its agent, domain, target or session, and a new report of the same status appears", () =>
    Effect.gen(function*() {
      const { joinAgent, newTunnel, operator, wsPort } = yield* TestServer
      const { apiKey, client, id } = yield* joinAgent
      const other = yield* joinAgent
      const tunnel = yield* newTunnel(id)
      const path = `/api/tunnels/${tunnel.id}`
      const shown = Effect.promise(async () => (await operator.get(path)).body)
      const withStatus = Effect.promise(async () =>
        (await operator.get(`/api/tunnels?status=active`)).body.items.map((item: { id: string }) => item.id)
      )
      const reportBy = (sender: typeof client, domain: string) =>
        Effect.andThen(
          Effect.sync(() => sender.send({ type: "status", data: { tunnels: [{ domain, status: "active" }] } })),
          Effect.repeat(shown, { until: ({ reported }) => reported?.status === "active" })
        )
      const patched = (patch: object) => Effect.promise(async () => (await operator.patch(path, patch)).body)

      yield* reportBy(client, tunnel.domain)
      assert.include(yield* withStatus, tunnel.id)
      assert.strictEqual((yield* patched({ enabled: false })).reported.status, "active")
      for (
        const [patch, sender] of [
          [{ target: "localhost:9" }, client],
          [{ domain: "renamed.example.com" }, client],
          [{ agentId: other.id }, other.client],
          [{ agentId: id }, client]
        ] as const
      ) {
        const { domain, reported } = yield* patched(patch)
        assert.isNull(reported, JSON.stringify(patch))
        yield* reportBy(sender, domain)
      }

      client.ws.close()
      yield* Effect.repeat(Effect.promise(() => operator.get(`/api/agents/${id}`)), {
        until: ({ body }) => body.status === "offline"
      })
      assert.isNull((yield* shown).reported)
      assert.notInclude(yield* withStatus, tunnel.id)
      const again = yield* join(wsPort, "agent", apiKey)
      assert.isNull((yield* shown).reported)
      yield* reportBy(again, "renamed.example.com")
    }))
})
