/** Discovery of the server by `control`, the receivers of admin tokens, and the explanations when no server answers. */
import { openDataDirectory } from "#store/DataDirectory.ts"
import { issueCertificate } from "#support/certificates.ts"
import { newDatabase } from "#support/testDatabase.ts"
import { readAdminToken, startServer } from "#support/serverProcess.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { chmodSync, chownSync, existsSync, lchownSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs"
import { rm, writeFile } from "node:fs/promises"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { runIn, runProcessIn } from "./run.ts"

/** A program that is not Control: records what it receives, on a port or a Unix socket. */
const listenAsStranger = Effect.fnUntraced(function*(where: string | number) {
  const received: Array<string> = []
  const server = createServer((request, answer) => {
    received.push(`${request.headers.authorization}`)
    answer.end("{}")
  })
  yield* Effect.acquireRelease(
    Effect.promise(() =>
      new Promise<void>((done) => {
        if (typeof where === "number") server.listen(where, "127.0.0.1", done)
        else server.listen(where, done)
      })
    ),
    () => Effect.sync(() => server.close())
  )
  return {
    received,
    url: typeof where === "number" ? `http://127.0.0.1:${(server.address() as AddressInfo).port}` : ""
  }
})

const token = "a-token-of-an-operator"

/** A data directory with a token, without a server. */
const newDataDirectory = Effect.tap(
  temporaryDirectory,
  (path) => Effect.sync(() => writeFileSync(join(path, "admin-token"), `${token}\n`, { mode: 0o600 }))
)

describe("control on the server's machine", () => {
  it.live(
    "control finds a server with TLS by its socket, and doctor reports a server without one",
    () =>
      Effect.gen(function*() {
        const dataDir = yield* temporaryDirectory
        const { certificate, privateKey } = issueCertificate({ names: ["localhost"] })
        const [CONTROL_TLS_CERTIFICATE, CONTROL_TLS_PRIVATE_KEY] = [join(dataDir, "pem"), join(dataDir, "key")]
        yield* Effect.promise(() => writeFile(CONTROL_TLS_CERTIFICATE, certificate))
        yield* Effect.promise(() => writeFile(CONTROL_TLS_PRIVATE_KEY, privateKey, { mode: 0o600 }))
        yield* Effect.promise(() => writeFile(join(dataDir, "api-url"), "http://127.0.0.1:9\n"))
        const server = yield* startServer({
          CONTROL_DATA_DIR: dataDir,
          CONTROL_API_HOST: "localhost",
          CONTROL_TLS_CERTIFICATE,
          CONTROL_TLS_PRIVATE_KEY
        })
        assert.isFalse(existsSync(join(dataDir, "api-url")), "the file of earlier builds is removed")
        const control = runIn({ CONTROL_DATA_DIR: dataDir })
        const created = yield* control("agent", "create", "--name", "found")
        assert.strictEqual(created.code, 0, created.stderr)

        const CONTROL_ADMIN_TOKEN = yield* readAdminToken(dataDir)
        const byUrl = { CONTROL_API_URL: server.apiUrl, CONTROL_ADMIN_TOKEN }
        const untrusted = yield* runIn(byUrl)("agent", "list")
        assert.strictEqual(untrusted.code, 5)
        assert.include(untrusted.stderr, "is not trusted; set NODE_EXTRA_CA_CERTS=FILE")
        // Node reads NODE_EXTRA_CA_CERTS once, at the start of a process.
        const CONTROL_API_URL = server.apiUrl.replace("localhost", "127.0.0.1")
        const trusting = { ...byUrl, CONTROL_API_URL, NODE_EXTRA_CA_CERTS: CONTROL_TLS_CERTIFICATE }
        const misnamed = yield* runProcessIn(trusting)("agent", "list")
        assert.strictEqual(misnamed.code, 5)
        assert.include(misnamed.stderr, "is for other names")

        yield* Effect.promise(() => rm(join(dataDir, "api", "socket")))
        const diagnosed = yield* control("doctor")
        assert.strictEqual(diagnosed.code, 0, diagnosed.stdout)
        assert.include(diagnosed.stdout, `a server runs here (process ${server.pid} on`)
        assert.include(diagnosed.stdout, "CONTROL_API_URL")
        assert.notMatch(diagnosed.stdout, /restore|damaged|fail/u)
      }),
    60_000
  )

  it.live("control reaches a server that was killed and started again", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      const env = { CONTROL_DATA_DIR: dataDir, DATABASE_URL: (yield* newDatabase).url }
      const killed = yield* startServer(env)
      killed.signal("SIGKILL")
      yield* Effect.promise(() => killed.exited)
      assert.isTrue(existsSync(join(dataDir, "api", "socket")), "a killed server leaves its socket")
      const control = runIn({ CONTROL_DATA_DIR: dataDir })
      const unanswered = yield* control("agent", "list")
      assert.strictEqual(unanswered.code, 5)
      assert.include(unanswered.stderr, `no answer from ${join(dataDir, "api", "socket")}; start Control`)

      const server = yield* startServer(env)
      const { code, stderr } = yield* control("agent", "list")
      assert.strictEqual(code, 0, stderr)
      server.signal("SIGTERM")
      yield* Effect.promise(() => server.exited)
      assert.isFalse(existsSync(join(dataDir, "api", "socket")), "a stopped server leaves no socket")
    }), 60_000)
})

describe("receivers of an admin token", () => {
  it.live("control sends no token to a URL that is planted in the data directory", () =>
    Effect.gen(function*() {
      const dataDir = yield* newDataDirectory
      const stranger = yield* listenAsStranger(0)
      yield* Effect.promise(() => writeFile(join(dataDir, "api-url"), `${stranger.url}\n`))
      yield* Effect.promise(() => writeFile(join(dataDir, "token"), `${token}\n`))
      chmodSync(join(dataDir, "token"), 0o644)
      for (const given of [{ CONTROL_ADMIN_TOKEN: token }, { CONTROL_ADMIN_TOKEN_FILE: join(dataDir, "token") }]) {
        const { code, stderr } = yield* runIn({ CONTROL_DATA_DIR: dataDir, ...given })("agent", "list")
        assert.strictEqual(code, 5, stderr)
        const isFile = "CONTROL_ADMIN_TOKEN_FILE" in given
        assert.strictEqual(
          stderr.includes("other users can read or write the file of CONTROL_ADMIN_TOKEN_FILE"),
          isFile
        )
      }
      assert.deepStrictEqual(stranger.received, [])
    }))

  it.live("control sends the token of a data directory to no URL, not even on this machine", () =>
    Effect.gen(function*() {
      const dataDir = yield* newDataDirectory
      const { received, url } = yield* listenAsStranger(0)
      const { code, stderr } = yield* runIn({ CONTROL_DATA_DIR: dataDir, CONTROL_API_URL: url })("agent", "list")
      assert.strictEqual(code, 4, stderr)
      assert.include(stderr, `no admin token for ${url}; set CONTROL_ADMIN_TOKEN or CONTROL_ADMIN_TOKEN_FILE`)
      assert.deepStrictEqual(received, [])
      // Proves that the program could have received the token.
      yield* runIn({ CONTROL_ADMIN_TOKEN: token, CONTROL_API_URL: url })("agent", "list")
      assert.deepStrictEqual(received, [`Bearer ${token}`])
    }))

  it.live("control sends nothing to the program on the port of a server that cannot start", () =>
    Effect.gen(function*() {
      const dataDir = yield* newDataDirectory
      const { received, url } = yield* listenAsStranger(0)
      // A starting server holds the lock before it finds its port in use.
      yield* openDataDirectory(dataDir)
      const starting = { CONTROL_DATA_DIR: dataDir, CONTROL_API_PORT: new URL(url).port }
      const { code, stderr } = yield* runProcessIn(starting)("agent", "list")
      assert.strictEqual(code, 5, stderr)
      assert.deepStrictEqual(received, [])
    }))

  it.live("control uses no data directory that another account could have prepared", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      writeFileSync(join(dataDir, "token"), `${token}\n`, { mode: 0o600 })
      mkdirSync(join(dataDir, "api"), { mode: 0o700 })
      const { received } = yield* listenAsStranger(join(dataDir, "api", "socket"))
      const control = runIn({ CONTROL_DATA_DIR: dataDir })
      symlinkSync(join(dataDir, "token"), join(dataDir, "admin-token"))
      const linked = yield* control("agent", "list")
      assert.strictEqual(linked.code, 4)
      assert.include(linked.stderr, `${join(dataDir, "admin-token")}: it is a symbolic link`)
      symlinkSync(join(dataDir, "token"), join(dataDir, "master-key"))
      const restored = yield* control("restore", join(dataDir, "backup"))
      assert.strictEqual(restored.code, 1)
      assert.include(restored.stderr, `${join(dataDir, "master-key")}: it is a symbolic link`)
      const withToken = runIn({ CONTROL_DATA_DIR: dataDir, CONTROL_ADMIN_TOKEN: token })
      chmodSync(join(dataDir, "api"), 0o755)
      const open = yield* withToken("agent", "list")
      assert.strictEqual(open.code, 4)
      assert.include(open.stderr, `${join(dataDir, "api")}: other accounts can enter it (mode 755)`)
      const other = yield* temporaryDirectory
      symlinkSync(join(dataDir, "api"), join(other, "api"))
      assert.strictEqual(
        (yield* runIn({ CONTROL_DATA_DIR: other, CONTROL_ADMIN_TOKEN: token })("agent", "list")).code,
        4
      )
      assert.deepStrictEqual(received, [])
      // Proves that the program could have received the token.
      chmodSync(join(dataDir, "api"), 0o700)
      yield* withToken("agent", "list")
      assert.deepStrictEqual(received, [`Bearer ${token}`])
    }))

  // Only root can give a directory to another account.
  it.live.skipIf(process.getuid?.() !== 0)(
    "control sends no token into a planted data directory of another account (needs root)",
    () =>
      Effect.gen(function*() {
        const [planter, user] = [54_322, 54_321]
        const home = yield* temporaryDirectory
        chmodSync(home, 0o755)
        const dataDir = join(home, "data")
        mkdirSync(join(dataDir, "api"), { recursive: true })
        writeFileSync(join(home, "token"), `${token}\n`, { mode: 0o644 })
        symlinkSync(join(home, "token"), join(dataDir, "admin-token"))
        const { received, url } = yield* listenAsStranger(0)
        const planted = yield* listenAsStranger(join(dataDir, "api", "socket"))
        writeFileSync(join(dataDir, "api-url"), `${url}\n`)
        chmodSync(join(dataDir, "api", "socket"), 0o777)
        for (const name of ["api-url", "api/socket", "api", ""]) chownSync(join(dataDir, name), planter, planter)
        lchownSync(join(dataDir, "admin-token"), planter, planter)
        const refusals = [
          [{ cwd: home }, { CONTROL_ADMIN_TOKEN: token }, "if you trust its owner, set CONTROL_DATA_DIR=data"],
          [{ cwd: home, uid: user, gid: user }, {}, "run control as that account"]
        ] as const
        for (const [options, env, advice] of refusals) {
          const { code, stderr } = yield* runProcessIn(env, options)("agent", "list")
          assert.strictEqual(code, 4, stderr)
          assert.include(stderr, `the directory data belongs to user id ${planter}`)
          assert.include(stderr, advice)
        }
        assert.deepStrictEqual([...received, ...planted.received], [])
        const closed = { CONTROL_DATA_DIR: yield* newDataDirectory }
        const denied = yield* runProcessIn(closed, { uid: user, gid: user })("agent", "list")
        assert.strictEqual(denied.code, 4)
        assert.match(denied.stderr, /permission denied.*; run control as the account of the server or as root/u)
        // Root may name the directory of another account.
        chmodSync(join(dataDir, "api"), 0o700)
        yield* runIn({ CONTROL_DATA_DIR: dataDir, CONTROL_ADMIN_TOKEN: token })("agent", "list")
        assert.deepStrictEqual(planted.received, [`Bearer ${token}`])
      }),
    60_000
  )
})

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
