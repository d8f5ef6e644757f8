/** Every error response is a problem (RFC 9457) and reveals nothing. */
import { api, type ApiResponse } from "#support/apiClient.ts"
import { TestServer } from "#support/TestServer.ts"
import { assert, layer } from "@effect/vitest"
import { Context, Effect } from "effect"
import { HttpServer } from "effect/http"
import { SqlClient } from "effect/sql"
import { request } from "node:http"

const code = (type: string) => `urn:control:problem:${type}`

const assertProblem = (answer: ApiResponse, status: number, type: string) => {
  assert.strictEqual(answer.status, status)
  assert.strictEqual(answer.headers.get("content-type"), "application/problem+json")
  assert.deepInclude(answer.body, { status, type: code(type) })
  assert.isNotEmpty(answer.body.title)
}

const portOf = Effect.map(TestServer, ({ context }) => {
  const { address } = Context.get(context, HttpServer.HttpServer)
  return "port" in address ? address.port : 0
})

/** Sends a request with any method and Host, which fetch does not allow. */
const raw = (port: number, method: string, path: string, headers: Record<string, string>) =>
  Effect.promise(() =>
    new Promise<{ status: number; allow: string | undefined; body: string }>((resolve, reject) => {
      const sent = request({ host: "127.0.0.1", port, method, path, headers }, (response) => {
        response.setEncoding("utf8").toArray().then(
          (chunks) =>
            resolve({ status: response.statusCode ?? 0, allow: response.headers.allow, body: chunks.join("") }),
          reject
        )
      })
      sent.on("error", reject).end()
    })
  )

layer(TestServer.layer(), { excludeTestServices: true })("rejected requests", (it) => {
  it.effect("without an admin token every request gets the same 401", () =>
    Effect.gen(function*() {
      const base = `http://127.0.0.1:${yield* portOf}`
      yield* Effect.promise(async () => {
        for (const client of [api(base), api(base, "wrong"), api(base, "")]) {
          const answers = [
            await client.get("/api/agents"),
            await client.get("/api/agents/unknown-id"),
            await client.post("/api/agents", "{malformed"),
            await client.post("/api/agents", { name: 1, unknown: true }),
            await client.get("/api/agents?wait=sent"),
            await client.get("/api/agents/unknown-id?wait=sent"),
            await client.put("/api/certificates/app.example.com", {}),
            await client.get("/api/clients")
          ]
          for (const answer of answers) {
            assertProblem(answer, 401, "unauthorized")
            assert.strictEqual(answer.headers.get("www-authenticate"), "Bearer")
            assert.isUndefined(answer.body.errors)
          }
        }
      })
    }))

  it.effect("a response lists the paths of all errors of a body, including unknown fields", () =>
    Effect.gen(function*() {
      const { operator } = yield* TestServer
      const answer = yield* Effect.promise(() =>
        operator.post("/api/tunnels", { agentId: "", domain: "no host", target: 1, enable: true })
      )
      assertProblem(answer, 400, "invalid-request")
      const paths = answer.body.errors.map((error: { in: string; path: string }) => `${error.in}:${error.path}`)
      assert.sameMembers(paths, ["body:enable", "body:agentId", "body:domain", "body:target"])
      assert.isTrue(answer.body.errors.every((error: { message: string }) => error.message.length > 0))
    }))

  it.effect("an unknown query parameter is rejected, also by endpoints without parameters", () =>
    Effect.gen(function*() {
      const { operator } = yield* TestServer
      yield* Effect.promise(async () => {
        const answers = [
          await operator.get("/api/agents?colour=red"),
          await operator.get("/api/agents/unknown-id?colour=red"),
          await operator.post("/api/agents?colour=red", { name: "home" }),
          await operator.delete("/api/agents/unknown-id?cascade=true&colour=red")
        ]
        for (const answer of answers) {
          assertProblem(answer, 400, "invalid-request")
          assert.deepInclude(answer.body.errors[0], { in: "query", path: "colour" })
        }
        assertProblem(await operator.get("/api/agents?wait=sent"), 400, "invalid-request")
        assert.deepInclude((await operator.delete("/api/agents/unknown-id?cascade=yes")).body.errors[0], {
          path: "cascade"
        })
      })
    }))

  it.effect("a body that is not a JSON object, or has another content type, is rejected", () =>
    Effect.gen(function*() {
      const { operator } = yield* TestServer
      yield* Effect.promise(async () => {
        for (const body of ["{malformed", "[]", "null", "\"text\"", ""]) {
          assertProblem(await operator.post("/api/agents", body), 400, "invalid-request")
        }
        const form = { "content-type": "application/x-www-form-urlencoded" }
        assertProblem(await operator.post("/api/agents", "name=home", form), 415, "unsupported-media-type")
        assertProblem(
          await operator.patch("/api/agents/unknown-id", "{}", { "content-type": "text/plain" }),
          415,
          "unsupported-media-type"
        )
      })
    }))

  it.effect("a body above 1 MiB is rejected, and a body of 1 MiB is read", () =>
    Effect.gen(function*() {
      const { operator } = yield* TestServer
      const mebibyte = 1024 * 1024
      const bodyOf = (size: number) => `{"name":"${"x".repeat(size - 11)}"}`
      yield* Effect.promise(async () => {
        assertProblem(await operator.post("/api/agents", bodyOf(mebibyte + 1)), 413, "body-too-large")
        assertProblem(await operator.post("/api/agents", bodyOf(mebibyte)), 400, "invalid-request")
      })
    }))

  it.effect("an unknown path gets 404, and an unsupported method gets 405 with Allow", () =>
    Effect.gen(function*() {
      const { operator } = yield* TestServer
      const port = yield* portOf
      yield* Effect.promise(async () => {
        assertProblem(await operator.get("/api/nothing"), 404, "not-found")
        assertProblem(await operator.put("/api/agents", {}), 405, "method-not-allowed")
        assertProblem(await operator.post("/healthz"), 405, "method-not-allowed")
        assertProblem(await operator.get(`/api/agents/${"x".repeat(2_000)}`), 404, "not-found")
        assertProblem(await operator.get(`/api/agents/${"x".repeat(128)}`), 404, "agent-not-found")
        const longest = `${"a".repeat(63)}.${"a".repeat(63)}.${"a".repeat(63)}.${"a".repeat(61)}`
        assertProblem(await operator.get(`/api/certificates/${longest}`), 404, "certificate-not-found")
      })
      assert.strictEqual((yield* raw(port, "OPTIONS", "/api/agents/x", {})).allow, "GET, HEAD, PATCH, DELETE")
      assert.strictEqual((yield* raw(port, "PUT", "/docs", {})).allow, "GET, HEAD")
      const head = yield* raw(port, "HEAD", "/healthz", {})
      assert.deepStrictEqual([head.status, head.body], [200, ""])
    }))

  it.effect("impossible ids, domains, cursors and limits get 400 or 404", () =>
    Effect.gen(function*() {
      const { operator } = yield* TestServer
      const sent = (text: string) => Buffer.from(text).toString("base64url")
      yield* Effect.promise(async () => {
        for (const path of ["/api/agents/a%00b", "/api/tunnels/%00", "/api/certificates/no%20host"]) {
          assertProblem(await operator.get(path), 400, "invalid-request")
        }
        assertProblem(
          await operator.get(`/api/agents/${encodeURIComponent("'; drop table agents; --")}`),
          404,
          "agent-not-found"
        )
        const nul = { agentId: "a\0b", domain: "nul.example.com", target: "localhost:1" }
        assertProblem(await operator.post("/api/tunnels", nul), 400, "invalid-request")
        for (const cursor of ["", "!", "zz", sent("1"), sent("x.y"), sent(`${"9".repeat(16)}.y`), sent("1.\0")]) {
          const answer = await operator.get(`/api/tunnels?cursor=${cursor}`)
          assertProblem(answer, 400, "invalid-request")
          assert.deepInclude(answer.body.errors[0], { in: "query", path: "cursor" })
        }
        for (const limit of ["0", "1001", "-1", "1.5", "many", ""]) {
          const answer = await operator.get(`/api/tunnels?limit=${limit}`)
          assertProblem(answer, 400, "invalid-request")
          assert.deepInclude(answer.body.errors[0], { in: "query", path: "limit" })
        }
        assert.strictEqual((await operator.get(`/api/tunnels?cursor=${sent(`8${"9".repeat(15)}.y`)}`)).status, 200)
      })
    }))

  it.effect("an unknown Host gets 421 (protection against DNS rebinding)", () =>
    Effect.gen(function*() {
      const port = yield* portOf
      for (const host of ["evil.example.com", "127.0.0.1.evil.example.com", "a b", "evil.example.com:3000"]) {
        const answer = yield* raw(port, "GET", "/healthz", { host })
        assert.strictEqual(answer.status, 421)
        assert.include(answer.body, code("misdirected-request"))
      }
      for (const host of ["localhost", `localhost:${port}`, "127.0.0.1:1", "[::1]:3000"]) {
        assert.strictEqual((yield* raw(port, "GET", "/healthz", { host })).status, 200)
      }
    }))

  it.effect("responses forbid caching and MIME sniffing, and have no CORS headers", () =>
    Effect.gen(function*() {
      const { operator } = yield* TestServer
      yield* Effect.promise(async () => {
        for (const path of ["/api/agents", "/api/nothing", "/healthz"]) {
          const { headers } = await operator.get(path, { origin: "https://evil.example.com" })
          assert.strictEqual(headers.get("cache-control"), "no-store")
          assert.strictEqual(headers.get("x-content-type-options"), "nosniff")
          assert.deepStrictEqual([...headers.keys()].filter((name) => name.startsWith("access-control")), [])
        }
      })
    }))

  it.effect("an internal error is a 500 without details", () =>
    Effect.gen(function*() {
      const { context, operator } = yield* TestServer
      const sql = Context.get(context, SqlClient.SqlClient)
      yield* sql`alter table certificates rename column certificate to secret_column`
      const answer = yield* Effect.promise(() => operator.get("/api/certificates"))
      yield* sql`alter table certificates rename column secret_column to certificate`
      assertProblem(answer, 500, "internal")
      assert.deepStrictEqual(Object.keys(answer.body).toSorted(), ["status", "title", "type"])
    }))
})
