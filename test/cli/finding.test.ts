/** How `control` finds the server of its machine, and what it says where it does not get through to one. */
import { issueCertificate } from "#support/certificates.ts"
import { newDatabase } from "#support/database.ts"
import { start, temporaryDirectory } from "#support/process.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { existsSync } from "node:fs"
import { rm, writeFile } from "node:fs/promises"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { runIn } from "./run.ts"

describe("control on the server's machine", () => {
  it.live(
    "finds a server on whatever port, and says that one runs where it cannot ask it",
    () =>
      Effect.gen(function*() {
        const dataDir = yield* temporaryDirectory
        const server = yield* start({ CONTROL_DATA_DIR: dataDir })
        const control = runIn({ CONTROL_DATA_DIR: dataDir })
        const made = yield* control("agent", "create", "--name", "found")
        assert.strictEqual(made.code, 0, made.stderr)

        yield* Effect.promise(() => rm(join(dataDir, "api-url")))
        const looked = yield* runIn({ CONTROL_DATA_DIR: dataDir, CONTROL_API_PORT: "9" })("doctor")
        assert.strictEqual(looked.code, 0, looked.stdout)
        assert.include(looked.stdout, `a server runs here (process ${server.pid} on`)
        assert.include(looked.stdout, "CONTROL_API_URL")
        assert.notMatch(looked.stdout, /restore|damaged|fail/u)
      }),
    60_000
  )

  it.live("finds one that speaks TLS, and says what is wrong with its certificate", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      const { certificate, privateKey } = issueCertificate({ names: ["localhost"] })
      const [CONTROL_TLS_CERTIFICATE, CONTROL_TLS_PRIVATE_KEY] = [join(dataDir, "pem"), join(dataDir, "key")]
      yield* Effect.promise(() => writeFile(CONTROL_TLS_CERTIFICATE, certificate))
      yield* Effect.promise(() => writeFile(CONTROL_TLS_PRIVATE_KEY, privateKey, { mode: 0o600 }))
      const server = yield* start({
        CONTROL_DATA_DIR: dataDir,
        CONTROL_API_HOST: "localhost",
        CONTROL_TLS_CERTIFICATE,
        CONTROL_TLS_PRIVATE_KEY,
        DATABASE_URL: (yield* newDatabase).url
      })
      const untrusted = yield* runIn({ CONTROL_DATA_DIR: dataDir })("agent", "list")
      assert.strictEqual(untrusted.code, 5)
      assert.include(untrusted.stderr, "is not trusted here: NODE_EXTRA_CA_CERTS=FILE")
      const trusting = { CONTROL_DATA_DIR: dataDir, NODE_EXTRA_CA_CERTS: CONTROL_TLS_CERTIFICATE }
      const trusted = yield* runIn(trusting)("agent", "list")
      assert.strictEqual(trusted.code, 0, trusted.stderr)
      const CONTROL_API_URL = server.apiUrl.replace("localhost", "127.0.0.1")
      const misnamed = yield* runIn({ ...trusting, CONTROL_API_URL })("agent", "list")
      assert.strictEqual(misnamed.code, 5)
      assert.include(misnamed.stderr, "is for other names")

      server.signal("SIGTERM")
      yield* Effect.promise(() => server.exited)
      assert.isFalse(existsSync(join(dataDir, "api-url")), "a server that has stopped is told of by nothing")
    }), 60_000)

  it.live("is let in where plaintext is refused and a proxy on this machine is trusted", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      const { apiUrl } = yield* start({
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
    }), 60_000)
})

it.live(
  "the token of a server that was killed is not sent to whatever listens in its place",
  () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      const server = yield* start({ CONTROL_DATA_DIR: dataDir, DATABASE_URL: (yield* newDatabase).url })
      server.signal("SIGKILL")
      yield* Effect.promise(() => server.exited)
      const asked: Array<string> = []
      const stranger = createServer((request, answer) => {
        asked.push(`${request.headers.authorization}`)
        answer.end("{}")
      })
      yield* Effect.acquireRelease(
        Effect.promise(() => new Promise<void>((done) => stranger.listen(0, "127.0.0.1", done))),
        () => Effect.sync(() => stranger.close())
      )
      const url = `http://127.0.0.1:${(stranger.address() as AddressInfo).port}`
      yield* Effect.promise(() => writeFile(join(dataDir, "api-url"), `${url}\n`))
      const { code, stderr } = yield* runIn({ CONTROL_DATA_DIR: dataDir })("agent", "list")
      assert.strictEqual(code, 5, stderr)
      assert.include(stderr, `no server runs on ${dataDir}`)
      assert.deepStrictEqual(asked, [])
      // A server is needed for the test to mean something: the stranger hears whoever says that it is to be asked.
      yield* runIn({ CONTROL_DATA_DIR: dataDir, CONTROL_API_URL: url })("agent", "list")
      assert.lengthOf(asked, 1)
    }),
  60_000
)

it.live("what a balancer answers by itself is told from what Control answers", () =>
  Effect.gen(function*() {
    const server = createServer((_, answer) => void answer.writeHead(503).end("<h1>no server is available</h1>"))
    yield* Effect.acquireRelease(
      Effect.promise(() => new Promise<void>((done) => server.listen(0, "127.0.0.1", done))),
      () => Effect.sync(() => server.close())
    )
    const CONTROL_API_URL = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const { code, stderr } = yield* runIn({ CONTROL_API_URL, CONTROL_ADMIN_TOKEN: "x".repeat(32) })("agent", "list")
    assert.strictEqual(code, 5)
    assert.include(stderr, "HTTP 503 from something before Control")
  }))
