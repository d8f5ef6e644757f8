import { api } from "#support/api.ts"
import { adminToken, newDatabase } from "#support/database.ts"
import { makeServer, TestServer } from "#support/server.ts"
import { assert, describe, it, layer } from "@effect/vitest"
import { Context, Effect, Exit, Option, Redacted, Scope } from "effect"
import { HttpServer } from "effect/http"
import { SqlClient } from "effect/sql"
import { PgClient } from "@effect/sql-pg"
import { connect } from "node:net"
import { inject } from "vitest"

/** Refuses every connection to this database, from now on and until it is allowed again. */
const reachable = (database: string, yes: boolean) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* sql.unsafe(`alter database ${database} with allow_connections ${yes}`)
    if (!yes) yield* sql`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${database}`
  }).pipe(
    Effect.provide(PgClient.layer({ url: Redacted.make(inject("serverUrl")), maxConnections: 1 })),
    Effect.scoped
  )

describe("while the database is away", () => {
  it.live(
    "the process is alive and not ready, and what is asked of it is a 503 that says when to come back",
    () =>
      Effect.gen(function*() {
        const { name, url } = yield* newDatabase
        const { operator } = yield* makeServer({ databaseUrl: Option.some(Redacted.make(url)) })
        const get = (path: string) => Effect.promise(() => operator.get(path))
        assert.strictEqual((yield* get("/readyz")).status, 200)

        yield* reachable(name, false)
        assert.deepInclude(yield* get("/healthz"), { status: 200, body: { status: "ok" } })
        const notReady = yield* Effect.repeat(get("/readyz"), { until: ({ status }) => status === 503 })
        assert.deepInclude(notReady.body, { type: "urn:control:problem:not-ready" })
        assert.strictEqual((yield* get("/metrics")).status, 200)
        const refused = yield* Effect.promise(() =>
          Promise.all([
            operator.get("/api/agents"),
            operator.post("/api/agents", { name: "home" }),
            operator.delete("/api/tunnels/x"),
            operator.post("/api/agents/x/keys"),
            operator.get("/api/clients")
          ])
        )
        for (const { body, headers, status } of refused) {
          assert.strictEqual(status, 503)
          assert.strictEqual(headers.get("retry-after"), "5")
          assert.deepInclude(body, { type: "urn:control:problem:store-unavailable" })
        }

        yield* reachable(name, true)
        yield* Effect.repeat(get("/readyz"), { until: ({ status }) => status === 200 })
        assert.strictEqual((yield* Effect.promise(() => operator.post("/api/agents", { name: "home" }))).status, 201)
      }).pipe(Effect.scoped),
    60_000
  )
})

layer(TestServer.layer(), { excludeTestServices: true })("without a token", (it) => {
  it.effect("supervisors and readers of the documents are served, and none of it has a name in it", () =>
    Effect.gen(function*() {
      const { context, operator } = yield* TestServer
      const { address } = Context.get(context, HttpServer.HttpServer)
      const stranger = api(`http://127.0.0.1:${"port" in address ? address.port : 0}`)
      yield* Effect.promise(async () => {
        await operator.post("/api/agents", { name: "very-secret-name" })
        for (const path of ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"]) {
          const { body, status } = await stranger.get(path)
          assert.strictEqual(status, 200)
          assert.notInclude(JSON.stringify(body), "very-secret-name")
        }
        const { body } = await stranger.get("/metrics")
        for (const line of String(body).split("\n").filter((text) => text !== "" && !text.startsWith("#"))) {
          assert.match(line, /^control_/u)
        }
        for (const name of ["connections", "event_loop_delay_seconds", "process_memory_bytes", "feed_revision"]) {
          assert.include(body, `# TYPE control_${name} gauge`)
        }
      })
    }))

  it.effect("the page of documents fetches nothing from elsewhere", () =>
    Effect.gen(function*() {
      const { operator } = yield* TestServer
      const { body, headers } = yield* Effect.promise(() => operator.get("/docs"))
      assert.notMatch(body, /<(?:script|link|img)[^>]+(?:src|href)=/u)
      assert.match(headers.get("content-security-policy") ?? "", /default-src 'self'.*connect-src 'self'/u)
    }))
})

describe("the operators' port", () => {
  it.live(
    "closes in time although one client never ends its request and another does not read its answers",
    () =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const { context } = yield* Scope.provide(makeServer(), scope)
        const { address } = Context.get(context, HttpServer.HttpServer)
        const [writer, reader] = [1, 2].map(() =>
          connect("port" in address ? address.port : 0, "127.0.0.1").on("error", () => {})
        )
        const authorization = `authorization: Bearer ${adminToken}`
        writer?.write(
          `POST /api/agents HTTP/1.1\r\nhost: localhost\r\n${authorization}\r\ncontent-length: 100\r\n\r\n{`
        )
        reader?.write("GET /docs HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(8))
        yield* Effect.promise(() => new Promise<void>((done) => reader?.once("readable", done)))
        yield* Effect.timeout(Scope.close(scope, Exit.void), "5 seconds")
        writer?.destroy()
        reader?.destroy()
      }),
    30_000
  )

  it.live("says in one sentence that another process has it", () =>
    Effect.gen(function*() {
      const { context } = yield* makeServer()
      const { address } = Context.get(context, HttpServer.HttpServer)
      const error = yield* Effect.flip(makeServer({ apiPort: "port" in address ? address.port : 0 }))
      assert.match(String(error), /cannot listen for operators on 127\.0\.0\.1:\d+: another process uses it/u)
    }).pipe(Effect.scoped), 30_000)
})
