/** Each path of the API has exactly one spelling, so that the path rules of a proxy hold. */
import { nonCanonicalReason } from "#ingress/canonicalPath.ts"
import { sendGet } from "#support/rawHttp.ts"
import { adminToken } from "#support/testDatabase.ts"
import { TestServer } from "#support/TestServer.ts"
import { assert, it, layer } from "@effect/vitest"
import { Effect } from "effect"

const otherSpellings = [
  "/API/backup",
  "/api/Backup",
  "//api/backup",
  "/api//backup",
  "/api/backup/",
  "/api/backup//",
  "/api/./backup",
  "/api/../api/backup",
  "/api/agents/",
  "/api/agents/..",
  "/api/agents/../backup",
  "/api/agents/%2e%2e/backup",
  "/api/%62ackup",
  "/%61pi/backup",
  "/api%2Fbackup",
  "/api%2fbackup",
  "/api/agents/a%2Fb",
  "/api/agents/a%5Cb",
  "/api\\backup",
  "/api/backup;v=1",
  "/api/backup#x",
  "/api/backup%00",
  "/api/backup%20",
  "/api/backup%",
  "/Healthz",
  "/metrics/",
  "/docs/",
  "/OpenAPI.json"
]

layer(TestServer.layer(), { excludeTestServices: true })("paths", (it) => {
  it.effect("another spelling of a path gets 404 before the token is checked", () =>
    Effect.gen(function*() {
      const { apiUrl } = yield* TestServer
      const port = Number(new URL(apiUrl).port)
      for (const path of otherSpellings) {
        for (const headers of [{}, { Authorization: `Bearer ${adminToken}` }]) {
          const { body, head, status } = yield* sendGet(port, path, headers)
          assert.strictEqual(status, 404, path)
          assert.include(head, "content-type: application/problem+json", path)
          assert.include(body, "urn:control:problem:not-found", path)
        }
      }
    }))

  it.effect("a percent-encoded id or domain still reaches its endpoint", () =>
    Effect.gen(function*() {
      const { operator } = yield* TestServer
      for (const path of ["/api/agents/%E5%90%8D", "/api/agents/a%20b%3Bc", "/api/agents/a@b", "/api/agents/..."]) {
        const { body } = yield* Effect.promise(() => operator.get(path))
        assert.strictEqual(body.type, "urn:control:problem:agent-not-found", path)
      }
      for (const path of ["/api/certificates/*.example.com", "/api/certificates/%2A.example.com?"]) {
        const { body } = yield* Effect.promise(() => operator.get(path))
        assert.strictEqual(body.type, "urn:control:problem:certificate-not-found", path)
      }
    }))
})

it("the reason names the part of the path that is not canonical", () => {
  assert.strictEqual(nonCanonicalReason("/a//b"), "an empty segment")
  assert.strictEqual(nonCanonicalReason("/a/.."), "a segment `.` or `..`")
  assert.strictEqual(nonCanonicalReason("/a;b"), "a character that must be percent-encoded")
  assert.strictEqual(nonCanonicalReason("/100%"), "a percent sign that is not percent-encoded")
  assert.match(nonCanonicalReason("/a%2Fb") ?? "", /percent-encoded$/u)
  assert.isUndefined(nonCanonicalReason("/api/agents/a.b-c_d~e?x=//../;%2F"))
})
