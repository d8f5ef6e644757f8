/** Admin tokens: the roles of every endpoint, and the end of revoked and expired tokens. */
import { Api } from "#schema/api.ts"
import { Authorization, RequiredRole } from "#schema/apiParts.ts"
import { type Role, roleIncludes, roles } from "#schema/adminTokens.ts"
import { api } from "#support/apiClient.ts"
import { followEvents } from "#support/EventFollower.ts"
import { fastIntervals } from "#support/fastIntervals.ts"
import { TestServer } from "#support/TestServer.ts"
import { assert, layer } from "@effect/vitest"
import { Context, Effect, Fiber, Option } from "effect"
import { HttpApi } from "effect/http-api"
import { SqlClient } from "effect/sql"
import { randomBytes } from "node:crypto"

const endpoints: Array<{ method: string; path: string; role: Role | "anyone" | undefined; guarded: boolean }> = []
HttpApi.reflect(Api, {
  onGroup: () => {},
  onEndpoint: ({ endpoint, middleware }) => {
    endpoints.push({
      method: endpoint.method,
      path: endpoint.path.replaceAll(/:\w+/gu, "unknown-id"),
      role: Option.getOrUndefined(Context.getOption(endpoint.annotations, RequiredRole)),
      guarded: [...middleware].some(({ key }) => key === Authorization.key)
    })
  }
})

const newToken = (role: Role, more: object = {}) =>
  Effect.flatMap(TestServer, ({ operator }) =>
    Effect.promise(async () => {
      const { body, status } = await operator.post("/api/tokens", { name: `my ${role}`, role, ...more })
      assert.strictEqual(status, 201, JSON.stringify(body))
      return body as { readonly id: string; readonly token: string; readonly expiresAt: string | null }
    }))

const statusOf = (token: string) =>
  Effect.flatMap(TestServer, ({ apiUrl }) => Effect.promise(() => api(apiUrl, token).get("/api/me")))

layer(TestServer.layer({}, fastIntervals), { excludeTestServices: true })("admin tokens", (it) => {
  it.effect("every endpoint declares a role, and requires a token unless the role is anyone", () =>
    Effect.sync(() => {
      assert.isAbove(endpoints.length, 30)
      for (const { guarded, method, path, role } of endpoints) {
        assert.isDefined(role, `${method} ${path}`)
        assert.strictEqual(guarded, role !== "anyone", `${method} ${path}`)
      }
    }))

  it.effect("every endpoint accepts exactly the roles that include its own role", () =>
    Effect.gen(function*() {
      const { apiUrl } = yield* TestServer
      for (const held of roles) {
        const { token } = yield* newToken(held)
        for (const { method, path, role } of endpoints) {
          if (role === undefined || role === "anyone") continue
          const answer = yield* Effect.promise(async () => {
            const abort = new AbortController()
            const headers = { authorization: `Bearer ${token}` }
            const response = await fetch(new URL(`${path}?no=such`, apiUrl), { method, headers, signal: abort.signal })
            const body: unknown = await response.json()
            abort.abort()
            return { status: response.status, body }
          })
          const name = `${held}: ${method} ${path}`
          // An accepted request is rejected because of its unknown parameter, so that the test changes nothing.
          if (roleIncludes(held, role)) assert.strictEqual(answer.status, 400, name)
          else {
            assert.strictEqual(answer.status, 403, name)
            assert.deepInclude(answer.body, { type: "urn:control:problem:role-too-low", needed: role, held })
          }
        }
      }
    }))

  it.effect("a token is returned once, stored as a hash, and can read its own id, name and role", () =>
    Effect.gen(function*() {
      const { context, operator } = yield* TestServer
      const created = yield* newToken("operate", { expiresIn: 3600 })
      assert.match(created.token, /^ctl_adm_/u)
      const shown = yield* Effect.promise(() => operator.get(`/api/tokens/${created.id}`))
      assert.notProperty(shown.body, "token")
      assert.notInclude(JSON.stringify((yield* Effect.promise(() => operator.get("/api/tokens"))).body), created.token)
      const sql = Context.get(context, SqlClient.SqlClient)
      const stored = JSON.stringify(yield* sql`select to_jsonb(t) from admin_tokens t`)
      assert.notInclude(stored, created.token)
      const self = yield* statusOf(created.token)
      const { expiresAt, id } = created
      assert.deepStrictEqual(self.body, { id, name: "my operate", role: "operate", expiresAt })
      yield* Effect.repeat(Effect.promise(() => operator.get(`/api/tokens/${id}`)), {
        until: ({ body }) => body.lastUsedAt !== null
      })
      const me = yield* Effect.promise(() => operator.get("/api/me"))
      assert.deepStrictEqual(me.body, { id: null, name: "bootstrap", role: "admin", expiresAt: null })
    }))

  it.effect("unknown, revoked and expired tokens get the same 401 immediately", () =>
    Effect.gen(function*() {
      const { context, operator } = yield* TestServer
      const [revoked, expired] = [yield* newToken("admin"), yield* newToken("admin")]
      assert.strictEqual((yield* statusOf(revoked.token)).status, 200)
      assert.strictEqual((yield* Effect.promise(() => operator.delete(`/api/tokens/${revoked.id}`))).status, 204)
      assert.strictEqual((yield* Effect.promise(() => operator.delete(`/api/tokens/${revoked.id}`))).status, 404)
      const sql = Context.get(context, SqlClient.SqlClient)
      yield* sql`update admin_tokens set expires_at = now() where id = ${expired.id}`
      const answers = []
      for (const token of ["ctl_adm_unknown", revoked.token, expired.token]) answers.push(yield* statusOf(token))
      assert.deepStrictEqual(answers.map(({ status }) => status), [401, 401, 401])
      assert.deepStrictEqual(answers[1]?.body, answers[0]?.body)
      assert.deepStrictEqual(answers[2]?.body, answers[0]?.body)
    }))

  it.effect("an event stream ends when its token is revoked", () =>
    Effect.gen(function*() {
      const { apiUrl, operator } = yield* TestServer
      const { id, token } = yield* newToken("read")
      const reader = yield* followEvents(apiUrl, token)
      assert.strictEqual(reader.status, 200)
      yield* Effect.promise(() => operator.delete(`/api/tokens/${id}`))
      yield* reader.ended
    }))

  it.effect("event streams of one token end when the token gets another role and is revoked", () =>
    Effect.gen(function*() {
      const { apiUrl, context, operator } = yield* TestServer
      const { id, token } = yield* newToken("operate")
      const before = yield* followEvents(apiUrl, token)
      yield* Context.get(context, SqlClient.SqlClient)`update admin_tokens set role = 'read' where id = ${id}`
      const after = yield* followEvents(apiUrl, token)
      assert.deepStrictEqual([before.status, after.status], [200, 200])
      yield* Effect.promise(() => operator.delete(`/api/tokens/${id}`))
      yield* Effect.all([before.ended, after.ended])
    }))

  it.effect("a backup download is aborted when its token is revoked", () =>
    Effect.gen(function*() {
      const { apiUrl, context, operator } = yield* TestServer
      const { id, token } = yield* newToken("admin")
      const sql = Context.get(context, SqlClient.SqlClient)
      // 19 MB that gzip cannot shrink below the socket buffers: 60 KiB of random text repeat outside its 32 KiB window.
      const texts = Array.from({ length: 64 }, () => randomBytes(480).toString("hex"))
      yield* sql`insert into audit (actor, entity, op, entity_id, revision)
        select 'sql:test', 'agent', 'update', (${texts}::text[])[1 + n % 64], 1 from generate_series(1, 20000) n`
      const taken = yield* Effect.promise(() =>
        fetch(new URL("/api/backup", apiUrl), { headers: { authorization: `Bearer ${token}` } })
      )
      assert.strictEqual(taken.status, 200)
      yield* Effect.promise(() => operator.delete(`/api/tokens/${id}`))
      const reading = sql`select 1 from pg_stat_activity
        where datname = current_database() and xact_start is not null and query ~ '^(fetch|declare)'`
      yield* Effect.repeat(reading, { until: (rows) => rows.length === 0 })
      const rest = yield* Effect.promise(() => taken.arrayBuffer().then(() => "complete", () => "aborted"))
      assert.strictEqual(rest, "aborted")
    }))

  it.effect("a token with an expiry in the past, on an impossible day, or given twice is rejected", () =>
    Effect.gen(function*() {
      const { operator } = yield* TestServer
      const ask = (more: object) =>
        Effect.promise(() => operator.post("/api/tokens", { name: "x", role: "read", ...more }))
      assert.strictEqual((yield* ask({ expiresAt: "2001-01-01T00:00:00.000Z" })).status, 422)
      assert.strictEqual((yield* ask({ expiresAt: "2901-01-01T00:00:00.000Z", expiresIn: 5 })).status, 400)
      assert.strictEqual((yield* ask({ expiresIn: 0 })).status, 400)
      assert.strictEqual((yield* ask({ expiresAt: "2901-02-31T00:00:00.000Z" })).status, 400)
    }))

  it.effect("wrong tokens are delayed and above a limit get 429, while a valid token is accepted at once", () =>
    Effect.gen(function*() {
      const { token } = yield* newToken("read")
      const wrong = yield* Effect.forkChild(Effect.all(
        Array.from({ length: 60 }, () => statusOf("ctl_adm_wrong")),
        { concurrency: "unbounded" }
      ))
      assert.strictEqual((yield* statusOf(token)).status, 200)
      const answers = yield* Fiber.join(wrong)
      const refused = answers.filter(({ status }) => status === 429)
      assert.isNotEmpty(refused)
      assert.isNotNull(refused[0]?.headers.get("retry-after"))
      assert.isTrue(answers.every(({ status }) => status === 401 || status === 429))
      assert.strictEqual((yield* statusOf(token)).status, 200)
    }))
})
