/** Discovery of the server by `control`, and the explanations when no server answers. */
import { issueCertificate } from "#support/certificates.ts"
import { newDatabase } from "#support/testDatabase.ts"
import { startServer } from "#support/serverProcess.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { existsSync } from "node:fs"
import { rm, writeFile } from "node:fs/promises"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { runIn, runProcessIn } from "./run.ts"

describe("control on the server's machine", () => {
  it.live(
    "control finds the server on any port, and doctor reports a running server that it cannot ask",
    () =>
      Effect.gen(function*() {
        const dataDir = yield* temporaryDirectory
        const server = yield* startServer({ CONTROL_DATA_DIR: dataDir })
        const control = runIn({ CONTROL_DATA_DIR: dataDir })
        const created = yield* control("agent", "create", "--name", "found")
        assert.strictEqual(created.code, 0, created.stderr)

        yield* Effect.promise(() => rm(join(dataDir, "api-url")))
        const diagnosed = yield* runIn({ CONTROL_DATA_DIR: dataDir, CONTROL_API_PORT: "9" })("doctor")
        assert.strictEqual(diagnosed.code, 0, diagnosed.stdout)
        assert.include(diagnosed.stdout, `a server runs here (process ${server.pid} on`)
        assert.include(diagnosed.stdout, "CONTROL_API_URL")
        assert.notMatch(diagnosed.stdout, /restore|damaged|fail/u)
      }),
    60_000
  )

  it.live(
    "control finds a server with TLS, and explains an untrusted or wrong certificate",
    () =>
      Effect.gen(function*() {
        const dataDir = yield* temporaryDirectory
        const { certificate, privateKey } = issueCertificate({ names: ["localhost"] })
        const [CONTROL_TLS_CERTIFICATE, CONTROL_TLS_PRIVATE_KEY] = [join(dataDir, "pem"), join(dataDir, "key")]
        yield* Effect.promise(() => writeFile(CONTROL_TLS_CERTIFICATE, certificate))
        yield* Effect.promise(() => writeFile(CONTROL_TLS_PRIVATE_KEY, privateKey, { mode: 0o600 }))
        const server = yield* startServer({
          CONTROL_DATA_DIR: dataDir,
          CONTROL_API_HOST: "localhost",
          CONTROL_TLS_CERTIFICATE,
          CONTROL_TLS_PRIVATE_KEY,
          DATABASE_URL: (yield* newDatabase).url
        })
        const untrusted = yield* runIn({ CONTROL_DATA_DIR: dataDir })("agent", "list")
        assert.strictEqual(untrusted.code, 5)
        assert.include(untrusted.stderr, "is not trusted; set NODE_EXTRA_CA_CERTS=FILE")
        // Node reads NODE_EXTRA_CA_CERTS once, at the start of a process.
        const trusting = { CONTROL_DATA_DIR: dataDir, NODE_EXTRA_CA_CERTS: CONTROL_TLS_CERTIFICATE }
        const trusted = yield* runProcessIn(trusting)("agent", "list")
        assert.strictEqual(trusted.code, 0, trusted.stderr)
        const CONTROL_API_URL = server.apiUrl.replace("localhost", "127.0.0.1")
        const misnamed = yield* runProcessIn({ ...trusting, CONTROL_API_URL })("agent", "list")
        assert.strictEqual(misnamed.code, 5)
        assert.include(misnamed.stderr, "is for other names")

        server.signal("SIGTERM")
        yield* Effect.promise(() => server.exited)
        assert.isFalse(existsSync(join(dataDir, "api-url")), "a stopped server leaves no URL behind")
      }),
    60_000
  )

  it.live(
    "control may use plaintext on this machine although TLS is required and a local proxy is trusted",
    () =>
      Effect.gen(function*() {
        const dataDir = yield* temporaryDirectory
        const { apiUrl } = yield* startServer({
          CONTROL_DATA_DIR: dataDir,
          CONTROL_REQUIRE_TLS: "true",
          CONTROL_TRUSTED_PROXIES: "127.0.0.1,::1",
          DATABASE_URL: (yield* newDatabase).url
        })
        const { code, stderr } = yield* runIn({ CONTROL_DATA_DIR: dataDir })("agent", "list")
        assert.strictEqual(code, 0, stderr)
        const proxied = yield* Effect.promise(() =>
          fetch(`${apiUrl}/api/agents`, { headers: { "x-forwarded-for": "203.0.113.7", "x-forwarded-proto": "http" } })
        )
        assert.strictEqual(proxied.status, 403)
      }),
    60_000
  )
})

it.live(
  "control does not send the token of a killed server to another program on its port",
  () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      const server = yield* startServer({ CONTROL_DATA_DIR: dataDir, DATABASE_URL: (yield* newDatabase).url })
      server.signal("SIGKILL")
      yield* Effect.promise(() => server.exited)
      const received: Array<string> = []
      const other = createServer((request, answer) => {
        received.push(`${request.headers.authorization}`)
        answer.end("{}")
      })
      yield* Effect.acquireRelease(
        Effect.promise(() => new Promise<void>((done) => other.listen(0, "127.0.0.1", done))),
        () => Effect.sync(() => other.close())
      )
      const url = `http://127.0.0.1:${(other.address() as AddressInfo).port}`
      yield* Effect.promise(() => writeFile(join(dataDir, "api-url"), `${url}\n`))
      const { code, stderr } = yield* runIn({ CONTROL_DATA_DIR: dataDir })("agent", "list")
      assert.strictEqual(code, 5, stderr)
      assert.include(stderr, `no server runs on ${dataDir}`)
      assert.deepStrictEqual(received, [])
      // Proves that the other program could have received the token: with CONTROL_API_URL the command asks it.
      yield* runIn({ CONTROL_DATA_DIR: dataDir, CONTROL_API_URL: url })("agent", "list")
      assert.lengthOf(received, 1)
    }),
  60_000
)

it.live("control distinguishes a load balancer's own error from a response of Control", () =>
  Effect.gen(function*() {
    const server = createServer((_, answer) => void answer.writeHead(503).end("<h1>no server is available</h1>"))
    yield* Effect.acquireRelease(
      Effect.promise(() => new Promise<void>((done) => server.listen(0, "127.0.0.1", done))),
      () => Effect.sync(() => server.close())
    )
    const CONTROL_API_URL = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const { code, stderr } = yield* runIn({ CONTROL_API_URL, CONTROL_ADMIN_TOKEN: "x".repeat(32) })("agent", "list")
    assert.strictEqual(code, 5)
    assert.include(stderr, "HTTP 503 from a proxy in front of Control")
  }))
