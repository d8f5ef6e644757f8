/** Hostile browsers, proxies and requests against both ports. */
import { sendGet, sendRequest, sendUpgrade } from "#support/rawHttp.ts"
import { TestServer } from "#support/TestServer.ts"
import { connect } from "#support/TestClient.ts"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"

const ports = Effect.map(TestServer, ({ apiUrl, wsPort }) => ({ ws: wsPort, api: Number(new URL(apiUrl).port) }))

const statusOf = <E, R>(answer: Effect.Effect<{ readonly status: number }, E, R>) =>
  Effect.map(answer, ({ status }) => status)

const loopback = { address: "127.0.0.0", length: 8, family: "ipv4" } as const
const allowed = { allowedHosts: ["control.example.com"], allowedOrigins: ["https://console.example.com"] }

layer(TestServer.layer(allowed), { excludeTestServices: true })("web pages", (it) => {
  it.effect("requests from pages of other origins get 403 for every method, without CORS headers", () =>
    Effect.gen(function*() {
      const { operator } = yield* TestServer
      const { api } = yield* ports
      for (
        const origin of ["https://evil.example.com", "null", "http://localhost:1", "https://console.example.com.evil"]
      ) {
        for (const method of ["GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"]) {
          const headers = ["Host: localhost", "Connection: close", `Origin: ${origin}`, "", ""]
          const answer = yield* sendRequest(api, `${method} /api/agents HTTP/1.1`, ...headers)
          assert.strictEqual(answer.status, 403, `${method} from ${origin}`)
          assert.notInclude(answer.head, "access-control")
        }
      }
      // A valid token does not help, because the Origin is checked first.
      const forbidden = yield* Effect.promise(() => operator.get("/api/agents", { origin: "https://evil.example.com" }))
      assert.strictEqual(forbidden.status, 403)
      assert.deepInclude(forbidden.body, { type: "urn:control:problem:forbidden", status: 403 })
      assert.include(forbidden.body.detail, "CONTROL_ALLOWED_ORIGINS")
    }))

  it.effect("pages of the API's own origin and of listed origins are allowed", () =>
    Effect.gen(function*() {
      const { api } = yield* ports
      const own = { Host: `localhost:${api}`, Origin: `http://localhost:${api}` }
      const proxied = { Host: "control.example.com", Origin: "https://control.example.com" }
      for (const headers of [own, proxied, { Origin: "https://console.example.com" }]) {
        const answer = yield* sendGet(api, "/healthz", headers)
        assert.strictEqual(answer.status, 200, JSON.stringify(headers))
        assert.notInclude(answer.head, "access-control")
        assert.notInclude(answer.head, "set-cookie")
      }
    }))

  it.effect("pages open no WebSocket unless their origin is listed, not even on the same host", () =>
    Effect.gen(function*() {
      const { ws } = yield* ports
      for (const origin of ["https://evil.example.com", "null", `http://127.0.0.1:${ws}`]) {
        assert.strictEqual(yield* statusOf(sendUpgrade(ws, { Origin: origin })), 403, origin)
      }
      assert.strictEqual(yield* statusOf(sendUpgrade(ws, { Origin: "https://console.example.com" })), 101)
      assert.strictEqual(yield* statusOf(sendUpgrade(ws)), 101, "agents and gateways send no Origin")
    }))

  it.effect("an unknown Host gets 421, and a listed Host is allowed (protection against DNS rebinding)", () =>
    Effect.gen(function*() {
      const { api } = yield* ports
      assert.strictEqual(yield* statusOf(sendGet(api, "/healthz", { Host: "evil.example.com" })), 421)
      assert.strictEqual(yield* statusOf(sendGet(api, "/healthz", { Host: "CONTROL.example.com:8443" })), 200)
      assert.strictEqual(yield* statusOf(sendRequest(api, "GET /healthz HTTP/1.0", "", "")), 421, "no Host header")
    }))

  it.effect("every response has the security headers", () =>
    Effect.gen(function*() {
      const { api } = yield* ports
      const hosts = ["localhost", "evil.example.com"]
      const paths = ["/api/agents", "/api/nothing", "/healthz", "/docs", "/openapi.json"]
      for (const [path, Host] of paths.flatMap((path) => hosts.map((host) => [path, host] as const))) {
        const { head } = yield* sendGet(api, path, { Host })
        // The documentation is public and cacheable, but no rejection is.
        const isDocument = Host === "localhost" && ["/docs", "/openapi.json"].includes(path)
        const caching = isDocument ? "cache-control: public, no-cache" : "cache-control: no-store"
        for (const header of [caching, "x-content-type-options: nosniff", "referrer-policy: no-referrer"]) {
          assert.include(head, header, path)
        }
        assert.match(head, /content-security-policy: .*frame-ancestors 'none'/u, path)
        assert.notInclude(head, "access-control")
      }
    }))

  it.effect("posting an HTML form gets 415", () =>
    Effect.gen(function*() {
      const { operator } = yield* TestServer
      for (const type of ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"]) {
        const answer = yield* Effect.promise(() =>
          operator.post("/api/agents", `{"name":"home"}`, { "content-type": type })
        )
        assert.strictEqual(answer.status, 415, type)
      }
    }))
})

layer(TestServer.layer(), { excludeTestServices: true })("ambiguous requests", (it) => {
  const ambiguous: Readonly<Record<string, ReadonlyArray<string>>> = {
    "both Content-Length and chunks": [
      "POST /api/agents HTTP/1.1",
      "Host: localhost",
      "Content-Length: 4",
      "Transfer-Encoding: chunked"
    ],
    "two Content-Length headers": [
      "POST /api/agents HTTP/1.1",
      "Host: localhost",
      "Content-Length: 0",
      "Content-Length: 5"
    ],
    "two encodings": ["POST /api/agents HTTP/1.1", "Host: localhost", "Transfer-Encoding: gzip, chunked"],
    "chunks that are not last": [
      "POST /api/agents HTTP/1.1",
      "Host: localhost",
      "Transfer-Encoding: chunked, identity"
    ],
    "chunks in HTTP/1.0": ["POST /api/agents HTTP/1.0", "Host: localhost", "Transfer-Encoding: chunked"],
    "two Host headers": ["GET /healthz HTTP/1.1", "Host: localhost", "host: evil.example.com"],
    "another host in the target": ["GET http://evil.example.com/healthz HTTP/1.1", "Host: localhost"],
    "a space before a colon": ["GET /healthz HTTP/1.1", "Host: localhost", "Content-Length : 5"],
    "a folded header": ["GET /healthz HTTP/1.1", "Host: localhost", "X-One: 1", " two"],
    "a bare line feed": ["GET /healthz HTTP/1.1\nHost: localhost"],
    "a NUL character": ["GET /healthz HTTP/1.1", "Host: localhost", "X-One: a\0b"]
  }
  for (const [name, lines] of Object.entries(ambiguous)) {
    it.effect(`both ports reject ${name} with 400 and do not read the following bytes as a request`, () =>
      Effect.gen(function*() {
        const { api, ws } = yield* ports
        const following = ["Connection: close", "", "0", "", "GET /healthz HTTP/1.1", "Host: localhost", "", ""]
        for (const port of [api, ws]) {
          const upgrading = port === ws
            ? ["Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
            : []
          const headers = port === ws ? ["Connection: Upgrade", ...following.slice(1)] : following
          const answer = yield* sendRequest(port, ...lines, ...upgrading, ...headers)
          assert.strictEqual(answer.status, 400, answer.head)
          assert.notInclude(answer.body, "HTTP/1.1 200")
        }
      }))
  }

  it.effect("two Origin headers are rejected with 403", () =>
    Effect.gen(function*() {
      const { api } = yield* ports
      const origins = [`Origin: http://localhost:${api}`, "Origin: https://evil.example.com"]
      const lines = [`GET /healthz HTTP/1.1`, `Host: localhost:${api}`, "Connection: close", ...origins, "", ""]
      assert.strictEqual(yield* statusOf(sendRequest(api, ...lines)), 403)
    }))
})

layer(TestServer.layer({ trustedProxies: [loopback], maxUnauthenticatedPerIp: 1 }), { excludeTestServices: true })(
  "behind a trusted proxy",
  (it) => {
    it.effect("quotas, clients and the audit log use the forwarded address, and ignore forged ones", () =>
      Effect.gen(function*() {
        const server = yield* TestServer
        const from = (forwardedFor: string) =>
          connect(server.wsPort, "", { headers: { "X-Forwarded-For": forwardedFor } })
        yield* from("192.0.2.1")
        assert.include((yield* Effect.flip(from("198.51.100.1, 192.0.2.1"))).message, "503", "the same one")
        yield* from("192.0.2.2")
        yield* from("2001:db8::1")
        assert.include((yield* Effect.flip(from("2001:db8::2"))).message, "503", "the same /64")
        const agent = yield* server.newAgent
        const client = yield* from("made up, 198.51.100.1, 203.0.113.7")
        client.send({ type: "auth", data: { apiKey: agent.apiKey } })
        yield* client.expect("auth_success")
        const { body } = yield* Effect.promise(() => server.operator.get("/api/clients"))
        assert.strictEqual(body.items[0].address, "203.0.113.7")
        yield* Effect.promise(() =>
          server.operator.post("/api/agents", { name: "seen" }, { "x-forwarded-for": "198.51.100.9" })
        )
        const audit = yield* Effect.promise(() => server.operator.get("/api/audit"))
        assert.include(JSON.stringify(audit.body), "198.51.100.9")
      }))
  }
)

layer(TestServer.layer(), { excludeTestServices: true })("without a trusted proxy", (it) => {
  it.effect("X-Forwarded-For of an untrusted address is ignored", () =>
    Effect.gen(function*() {
      const server = yield* TestServer
      const agent = yield* server.newAgent
      const client = yield* connect(server.wsPort, "", { headers: { "X-Forwarded-For": "203.0.113.7" } })
      client.send({ type: "auth", data: { apiKey: agent.apiKey } })
      yield* client.expect("auth_success")
      const { body } = yield* Effect.promise(() => server.operator.get("/api/clients"))
      assert.strictEqual(body.items[0].address, "127.0.0.1")
    }))
})

layer(TestServer.layer({ ...allowed, trustedProxies: [loopback], requireTls: true }), { excludeTestServices: true })(
  "with CONTROL_REQUIRE_TLS behind a proxy",
  (it) => {
    it.effect("both ports reject requests that did not reach the proxy by https, except health checks and metrics", () =>
      Effect.gen(function*() {
        const { api, ws } = yield* ports
        const https = { "X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.7" }
        for (
          const [headers, isRejected] of [
            [{ "X-Forwarded-Proto": "http" }, true],
            [{ "X-Forwarded-For": "203.0.113.7" }, true],
            [{ Via: "1.1 proxy" }, true],
            [{ Host: "control.example.com" }, true],
            [{ ...https, "X-Forwarded-Proto": "ws" }, true],
            [{ ...https, "X-Forwarded-Proto": "wss" }, false],
            [https, false]
          ] as const
        ) {
          const answer = yield* sendGet(api, "/api/agents", headers)
          assert.strictEqual(answer.status, isRejected ? 403 : 401)
          if (isRejected) assert.include(answer.body, "X-Forwarded-Proto")
          assert.strictEqual(yield* statusOf(sendUpgrade(ws, headers)), isRejected ? 403 : 101)
          for (const path of ["/healthz", "/readyz", "/metrics?x=1"]) {
            assert.notStrictEqual(yield* statusOf(sendGet(api, path, headers)), 403, path)
          }
        }
        assert.strictEqual(yield* statusOf(sendGet(api, "/healthz/../api/agents", { Via: "1.1 proxy" })), 403)
      }))

    it.effect("the command `control` on the same machine may use plaintext, agents and gateways may not", () =>
      Effect.gen(function*() {
        const { api, ws } = yield* ports
        assert.strictEqual(yield* statusOf(sendGet(api, "/api/agents")), 401)
        assert.strictEqual(yield* statusOf(sendUpgrade(ws)), 403)
      }))
  }
)

layer(TestServer.layer({ requireTls: true }), { excludeTestServices: true })(
  "with CONTROL_REQUIRE_TLS and no proxy",
  (it) => {
    it.effect("plaintext within this machine is allowed", () =>
      Effect.gen(function*() {
        const { api, ws } = yield* ports
        assert.strictEqual(yield* statusOf(sendGet(api, "/api/agents")), 401)
        assert.strictEqual(yield* statusOf(sendUpgrade(ws)), 101)
      }))
  }
)
