/** Health checks, metrics and shutdown of the API port. */
import { api } from "#support/apiClient.ts"
import { adminToken, newDatabase } from "#support/testDatabase.ts"
import { execute } from "#support/templateDatabase.ts"
import { fastIntervals } from "#support/fastIntervals.ts"
import { makeServer, TestServer } from "#support/TestServer.ts"
import { assert, describe, it, layer } from "@effect/vitest"
import { Context, Effect, Exit, Option, Redacted, Scope } from "effect"
import { HttpServer } from "effect/http"
import { SqlClient } from "effect/sql"
import { PgClient } from "@effect/sql-pg"
import { connect } from "node:net"
import { inject } from "vitest"

/** Allows or forbids connections to this database, and ends open ones if forbidden. */
const setReachable = (database: string, isReachable: boolean) =>
  Effect.gen(function*() {
    const sql = yield* SqlClient.SqlClient
    yield* sql.unsafe(`alter database ${database} with allow_connections ${isReachable}`)
    if (!isReachable) yield* sql`select pg_terminate_backend(pid) from pg_stat_activity where datname = ${database}`
  }).pipe(
    Effect.provide(PgClient.layer({ url: Redacted.make(inject("serverUrl")), maxConnections: 1 })),
    Effect.scoped
  )

describe("while the database is unreachable", () => {
  it.live(
    "the process is live but not ready, and API requests get 503 with Retry-After",
    () =>
      Effect.gen(function*() {
        const { name, url } = yield* newDatabase
        const { operator } = yield* makeServer({ databaseUrl: Option.some(Redacted.make(url)) })
        const get = (path: string) => Effect.promise(() => operator.get(path))
        assert.strictEqual((yield* get("/readyz")).status, 200)

        yield* setReachable(name, false)
        assert.deepInclude(yield* get("/healthz"), { status: 200, body: { status: "ok" } })
        const notReady = yield* Effect.repeat(get("/readyz"), { until: ({ status }) => status === 503 })
        assert.deepInclude(notReady.body, { type: "urn:control:problem:not-ready" })
        assert.strictEqual((yield* get("/metrics")).status, 200)
        const rejected = yield* Effect.promise(() =>
          Promise.all([
            operator.get("/api/agents"),
            operator.post("/api/agents", { name: "home" }),
            operator.delete("/api/tunnels/x"),
            operator.post("/api/agents/x/keys"),
            operator.get("/api/clients")
          ])
        )
        for (const { body, headers, status } of rejected) {
          assert.strictEqual(status, 503)
          assert.strictEqual(headers.get("retry-after"), "5")
          assert.deepInclude(body, { type: "urn:control:problem:store-unavailable" })
        }

        yield* setReachable(name, true)
        yield* Effect.repeat(get("/readyz"), { until: ({ status }) => status === 200 })
        assert.strictEqual((yield* Effect.promise(() => operator.post("/api/agents", { name: "home" }))).status, 201)
      }).pipe(Effect.scoped),
    60_000
  )
})

layer(TestServer.layer(), { excludeTestServices: true })("without a token", (it) => {
  it.effect("health checks, metrics and documents need no token and contain no names", () =>
    Effect.gen(function*() {
      const { context, operator } = yield* TestServer
      const { address } = Context.get(context, HttpServer.HttpServer)
      const anonymous = api(`http://127.0.0.1:${"port" in address ? address.port : 0}`)
      yield* Effect.promise(async () => {
        await operator.post("/api/agents", { name: "very-secret-name" })
        for (const path of ["/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"]) {
          const { body, status } = await anonymous.get(path)
          assert.strictEqual(status, 200)
          assert.notInclude(JSON.stringify(body), "very-secret-name")
        }
        const { body } = await anonymous.get("/metrics")
        for (const line of String(body).split("\n").filter((text) => text !== "" && !text.startsWith("#"))) {
          assert.match(line, /^control_/u)
        }
        for (const name of ["connections", "event_loop_delay_seconds", "process_memory_bytes", "feed_revision"]) {
          assert.include(body, `# TYPE control_${name} gauge`)
        }
      })
    }))

  it.effect("GET / on both ports says what the port is for and where to go", () =>
    Effect.gen(function*() {
      const { apiUrl, wsPort } = yield* TestServer
      const index = yield* Effect.promise(() => api(apiUrl).get("/"))
      assert.deepInclude(index.body, { name: "Control", documentation: "/docs", openapi: "/openapi.json" })
      for (const path of ["documentation", "openapi", "asyncapi", "health", "metrics"]) {
        assert.strictEqual((yield* Effect.promise(() => api(apiUrl).get(index.body[path]))).status, 200, path)
      }
      const { body, status } = yield* Effect.promise(() => api(`http://127.0.0.1:${wsPort}`).get("/"))
      assert.strictEqual(status, 426)
      for (const text of ["agents and gateways", "/?type=agent", "CONTROL_API_PORT"]) assert.include(body, text)
    }))

  it.effect("the page /docs loads nothing from other hosts", () =>
    Effect.gen(function*() {
      const { operator } = yield* TestServer
      const { body, headers } = yield* Effect.promise(() => operator.get("/docs"))
      assert.notMatch(body, /<(?:script|link|img)[^>]+(?:src|href)="(?!\/[^/]|data:)/u)
      assert.match(headers.get("content-security-policy") ?? "", /default-src 'none'.*connect-src 'self'/u)
    }))
})

describe("while the database rejects writes", () => {
  it.live(
    "/readyz names the missing privilege or the read-only database, and is 200 again afterwards",
    () =>
      Effect.gen(function*() {
        const { name, url } = yield* newDatabase
        const role = `role_${name}`
        const asOwner = (statement: string) => execute(url, statement)
        yield* asOwner(`create role ${role} login password 'not-secret'`)
        yield* asOwner(`grant create, usage on schema public to ${role}`)
        for (const kind of ["tables", "sequences", "functions"]) {
          yield* asOwner(`grant all on all ${kind} in schema public to ${role}`)
        }
        yield* Effect.addFinalizer(() =>
          Effect.orDie(Effect.andThen(asOwner(`drop owned by ${role} cascade`), asOwner(`drop role ${role}`)))
        )
        const withRole = new URL(url)
        withRole.username = role
        withRole.password = "not-secret"
        const { operator } = yield* makeServer({ databaseUrl: Option.some(Redacted.make(withRole.toString())) })
        const ready = Effect.promise(() => operator.get("/readyz"))
        const becomes = (expected: number) => Effect.repeat(ready, { until: ({ status }) => status === expected })
        assert.strictEqual((yield* ready).status, 200)

        for (const [table, privilege] of [["changes", "insert"], ["audit", "insert"]] as const) {
          yield* asOwner(`revoke ${privilege} on ${table} from ${role}`)
          assert.include((yield* becomes(503)).body.detail, `lacks privileges: ${privilege.toUpperCase()} on ${table}`)
          const rejected = yield* Effect.promise(() => operator.post("/api/agents", { name: "rejected" }))
          assert.strictEqual(rejected.status, 503)
          assert.include(rejected.body.detail, "the database user lacks a privilege that /readyz names")
          yield* asOwner(`grant ${privilege} on ${table} to ${role}`)
          yield* becomes(200)
        }
        assert.strictEqual((yield* Effect.promise(() => operator.post("/api/agents", { name: "home" }))).status, 201)

        yield* asOwner(`alter database ${name} set default_transaction_read_only to on`)
        yield* execute(
          inject("serverUrl"),
          `select pg_terminate_backend(pid) from pg_stat_activity where usename = '${role}'`
        )
        // At first the answers are about the connections that have ended.
        yield* Effect.repeat(ready, {
          until: ({ body, status }) => status === 503 && String(body.detail).includes("read-only")
        })
        const refused = yield* Effect.promise(() => operator.post("/api/agents", { name: "refused" }))
        assert.strictEqual(refused.status, 503)
        assert.include(refused.body.detail, "the database is read-only")
        yield* execute(inject("serverUrl"), `alter database ${name} reset default_transaction_read_only`)
        yield* execute(
          inject("serverUrl"),
          `select pg_terminate_backend(pid) from pg_stat_activity where usename = '${role}'`
        )
        yield* becomes(200)
      }).pipe(Effect.scoped),
    60_000
  )
})

describe("API port", () => {
  it.live(
    "the API port closes within 5 s despite an unfinished request and an unread response",
    () =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const { context } = yield* Scope.provide(makeServer({}, fastIntervals), scope)
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

  it.live("the error names the address of a port that another process uses", () =>
    Effect.gen(function*() {
      const { context } = yield* makeServer()
      const { address } = Context.get(context, HttpServer.HttpServer)
      const error = yield* Effect.flip(makeServer({ apiPort: "port" in address ? address.port : 0 }))
      assert.match(String(error), /cannot listen for operators on 127\.0\.0\.1:\d+: another process uses it/u)
    }).pipe(Effect.scoped), 30_000)
})
