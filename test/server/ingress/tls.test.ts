/** TLS on both ports: protocol versions, replacement of certificates, and warnings. */
import { Agents } from "#services/Agents.ts"
import { Listener } from "#connection/Listener.ts"
import * as Control from "#server/Control.ts"
import { Ingress } from "#ingress/Ingress.ts"
import { WSServer } from "#library/index.ts"
import { defaults, Settings, type SettingsValues } from "#server/Settings.ts"
import { issueCertificate } from "#support/certificates.ts"
import { newDatabase, quiet, testSettings } from "#support/testDatabase.ts"
import { startServer } from "#support/serverProcess.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { sendGet } from "#support/rawHttp.ts"
import { Intervals, type IntervalValues, productionIntervals } from "#time/Intervals.ts"
import { assert, it } from "@effect/vitest"
import { Context, Duration, Effect, Layer, Logger, Option, Redacted, References } from "effect"
import { HttpServer } from "effect/http"
import { TestClock } from "effect/testing"
import { chmodSync, rmSync, writeFileSync } from "node:fs"
import type { IncomingMessage } from "node:http"
import { request } from "node:https"
import { createServer } from "node:net"
import { join } from "node:path"
import { connect, type TLSSocket } from "node:tls"
import { WebSocket } from "ws"

/** Creates paths and settings of a certificate and its key, and a function that writes both files. */
const makeFiles = Effect.map(temporaryDirectory, (directory) => {
  const certificate = join(directory, "certificate.pem")
  const key = join(directory, "key.pem")
  const write = (pair: { readonly certificate: string; readonly privateKey: string }) => {
    writeFileSync(certificate, pair.certificate)
    writeFileSync(key, pair.privateKey, { mode: 0o600 })
    return pair
  }
  const settings = { tlsCertificate: Option.some(certificate), tlsPrivateKey: Option.some(key) }
  return { certificate, key, write, settings }
})

const issue = () => issueCertificate({ names: ["localhost"] })

/** Performs a handshake and returns the socket or the error. */
const handshake = (port: number, options: object = {}) =>
  Effect.promise(() =>
    new Promise<TLSSocket | Error>((done) => {
      const socket = connect({
        port,
        host: "127.0.0.1",
        servername: "localhost",
        rejectUnauthorized: false,
        ...options
      })
      socket.once("secureConnect", () => done(socket)).once("error", done)
    })
  ).pipe(
    Effect.tap((socket) => Effect.addFinalizer(() => Effect.sync(() => socket instanceof Error || socket.destroy())))
  )

/** Returns a port that was free a moment ago. */
const freePort = Effect.promise(() =>
  new Promise<number>((done) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const address = server.address()
      server.close(() => done(typeof address === "object" ? address?.port ?? 0 : 0))
    })
  })
)

/** Returns the server certificate of a new connection. */
const certificateShownBy = Effect.fnUntraced(function*(port: number) {
  const socket = yield* handshake(port)
  if (socket instanceof Error) throw socket
  return socket.getPeerX509Certificate()?.toString()
})

it.live("both ports accept TLS 1.2 and later, and no plaintext", () =>
  Effect.gen(function*() {
    const files = yield* makeFiles
    const { certificate: ca } = files.write(issue())
    const context = yield* Layer.build(
      Control.layer.pipe(
        Layer.provideMerge(testSettings({ ...files.settings, requireTls: true })),
        Layer.provideMerge(quiet)
      )
    )
    const wsPort = Context.get(context, Listener).port
    const { address } = Context.get(context, HttpServer.HttpServer)
    const apiPort = "port" in address ? address.port : 0

    const { apiKey } = yield* Context.get(context, Agents).create({ name: "home" })
    const messages = yield* Effect.promise(() =>
      new Promise<ReadonlyArray<string>>((done, fail) => {
        const types: Array<string> = []
        const socket = new WebSocket(`wss://localhost:${wsPort}/`, { ca })
        socket.on("open", () => socket.send(JSON.stringify({ type: "auth", data: { apiKey: Redacted.value(apiKey) } })))
          .on("error", fail)
        socket.on("message", (data) => {
          types.push(JSON.parse(String(data)).type)
          if (types.length === 2) socket.close()
        })
        socket.on("close", () => done(types))
      })
    )
    assert.deepStrictEqual(messages, ["auth_success", "config"])
    const answer = yield* Effect.promise(() =>
      new Promise<IncomingMessage>((done, fail) =>
        request({ host: "localhost", port: apiPort, path: "/metrics", ca, agent: false })
          .on("response", done).on("error", fail).end()
      )
    )
    const metrics = (yield* Effect.promise(() => answer.setEncoding("utf8").toArray())).join("")
    assert.match(metrics, /^control_tls_certificate_expiry_seconds(?:\{.*\})? \d+/mu)
    const rejection = yield* Effect.promise(() =>
      new Promise<string>((done) => {
        const socket = new WebSocket(`wss://localhost:${wsPort}/?type=unknown`, { ca })
        socket.on("error", (error) => done(error.message))
      })
    )
    assert.include(rejection, "400", "a rejected upgrade gets a complete response")
    for (const port of [wsPort, apiPort]) {
      assert.strictEqual((yield* sendGet(port, "/healthz")).status, 0, "plaintext gets no response")
      const old = { minVersion: "TLSv1" as const, maxVersion: "TLSv1.1" as const, ciphers: "DEFAULT@SECLEVEL=0" }
      assert.instanceOf(yield* handshake(port, old), Error)
      const socket = yield* handshake(port, { maxVersion: "TLSv1.2" })
      assert.isFalse(socket instanceof Error)
    }
  }), 30_000)

it.live("the library uses TLS, and its constructor throws without the key file", () =>
  Effect.gen(function*() {
    const files = yield* makeFiles
    const { certificate } = files.write(issue())
    const { url } = yield* newDatabase
    const env = {
      DATABASE_URL: url,
      CONTROL_WS_HOST: "127.0.0.1",
      CONTROL_WS_PORT: "0",
      CONTROL_LOG_LEVEL: "none",
      CONTROL_DATA_DIR: yield* temporaryDirectory,
      CONTROL_TLS_CERTIFICATE: files.certificate,
      CONTROL_TLS_PRIVATE_KEY: files.key
    }
    const port = yield* freePort
    const server = yield* Effect.acquireRelease(
      Effect.sync(() => new WSServer(port, { env: { ...env, CONTROL_WS_PORT: String(port) } })),
      (server) => Effect.promise(() => server.close())
    )
    yield* Effect.promise(() => server.ready)
    assert.strictEqual(yield* certificateShownBy(port), certificate)
    rmSync(files.key)
    assert.throws(() => new WSServer(port, { env }), "CONTROL_TLS_PRIVATE_KEY")
  }), 30_000)

it.live("the process prints wss and https URLs with TLS", () =>
  Effect.gen(function*() {
    const files = yield* makeFiles
    files.write(issue())
    const { url } = yield* newDatabase
    const server = yield* startServer({
      DATABASE_URL: url,
      CONTROL_DATA_DIR: yield* temporaryDirectory,
      CONTROL_TLS_CERTIFICATE: files.certificate,
      CONTROL_TLS_PRIVATE_KEY: files.key
    })
    assert.match(server.output(), /wss:\/\/127\.0\.0\.1:\d+ and operators on https:\/\/127\.0\.0\.1:\d+/u)
    assert.isFalse((yield* handshake(server.wsPort)) instanceof Error)
  }), 30_000)

/** Builds an Ingress on the test clock and collects its log lines. */
const makeIngress = Effect.fnUntraced(function*(
  settings: Partial<SettingsValues>,
  intervals: IntervalValues = productionIntervals
) {
  const lines: Array<string> = []
  const logger = Logger.make(({ logLevel, message }) => lines.push(`${logLevel}: ${String(message)}`))
  const ingress = Context.get(
    yield* Layer.build(
      Ingress.layer.pipe(
        Layer.provide(Settings.layerOf({ ...defaults, ...settings })),
        Layer.provide(Layer.succeed(Intervals, intervals)),
        Layer.provideMerge(Logger.layer([logger])),
        Layer.provideMerge(Layer.succeed(References.MinimumLogLevel, "All"))
      )
    ),
    Ingress
  )
  return { ingress, lines, logging: Effect.provide(Logger.layer([logger])) }
})

const serve = Effect.fnUntraced(function*(ingress: Ingress["Service"]) {
  const server = ingress.create("ws", { requestTimeout: 10_000, maxHeaderSize: 8_192 }, (_, response) => response.end())
  yield* ingress.supervise("ws", server)
  yield* Effect.promise(() => new Promise<void>((done) => server.listen(0, "127.0.0.1", done)))
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      server.close()
      server.closeAllConnections()
    })
  )
  const address = server.address()
  return { server, port: typeof address === "object" ? address?.port ?? 0 : 0 }
})

it.effect("new connections use a replaced certificate, unusable files change nothing, and no connection is closed", () =>
  Effect.gen(function*() {
    const files = yield* makeFiles
    const first = files.write(issue())
    const { ingress, lines, logging } = yield* makeIngress(files.settings)
    const reload = logging(ingress.reloadCertificate)
    const { port } = yield* serve(ingress)
    const open = yield* handshake(port)
    if (open instanceof Error) throw open
    assert.strictEqual(yield* certificateShownBy(port), first.certificate)

    // During a renewal key and certificate do not match for a moment, and files may be missing.
    const second = issue()
    assert.strictEqual(yield* reload, "unchanged")
    writeFileSync(files.certificate, second.certificate)
    assert.strictEqual(yield* reload, "unusable")
    yield* TestClock.adjust("10 seconds")
    assert.strictEqual(yield* reload, "unusable")
    assert.strictEqual(yield* certificateShownBy(port), first.certificate)
    assert.lengthOf(lines.filter((line) => line.startsWith("Warn: keeping the previous TLS certificate")), 1)
    rmSync(files.certificate)
    yield* TestClock.adjust("10 seconds")
    assert.lengthOf(lines.filter((line) => line.startsWith("Warn: keeping the previous TLS certificate")), 2)
    assert.strictEqual(yield* certificateShownBy(port), first.certificate)

    files.write(second)
    yield* TestClock.adjust("5 seconds")
    assert.strictEqual(yield* certificateShownBy(port), second.certificate)
    assert.include(lines.join("\n"), "Info: replaced the TLS certificate")
    const answer = new Promise((done) => open.once("data", (data) => done(String(data).slice(0, 15))))
    open.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert.strictEqual(yield* Effect.promise(() => answer), "HTTP/1.1 200 OK", "the first connection is still open")
    assert.notInclude(lines.join("\n"), "PRIVATE KEY")
    const third = files.write(issue())
    assert.strictEqual(yield* reload, "replaced")
    assert.strictEqual(yield* certificateShownBy(port), third.certificate)
  }))

it.effect("an expiring certificate is warned about at the start and every day, a readable key file once", () =>
  Effect.gen(function*() {
    const files = yield* makeFiles
    const day = 86_400_000
    // The test clock begins in 1970.
    files.write(
      issueCertificate({ names: ["localhost"], notBefore: new Date(-80 * day), notAfter: new Date(1.5 * day) })
    )
    chmodSync(files.key, 0o644)
    // Polling every 5 s would read the files 34,560 times in the 2 days below.
    const intervals = { ...productionIntervals, certificatePollInterval: Duration.hours(1) }
    const { lines } = yield* makeIngress(files.settings, intervals)
    yield* TestClock.adjust("0 seconds")
    const about = () => lines.filter((line) => line.includes("certificate of CONTROL_TLS_CERTIFICATE"))
    assert.deepStrictEqual(about(), ["Warn: the certificate of CONTROL_TLS_CERTIFICATE expires within 2 days"])
    yield* TestClock.adjust("2 days")
    assert.deepStrictEqual(about().slice(1).map((line) => line.slice(-11)), ["ithin 1 day", "has expired"])
    assert.lengthOf(
      lines.filter((line) => line.includes("other users can read or write the file of CONTROL_TLS_PRIVATE_KEY")),
      1
    )
  }))

it.effect("an unusable certificate or key fails the start with the reason, without file contents", () =>
  Effect.gen(function*() {
    const files = yield* makeFiles
    const reasonFor = (certificate: string, privateKey: string) => {
      files.write({ certificate, privateKey })
      return Effect.map(Effect.flip(makeIngress(files.settings)), ({ message }) => message)
    }
    const [one, other] = [issue(), issue()]
    const secret = one.privateKey.split("\n")[1] ?? ""
    assert.include(yield* reasonFor(one.certificate, other.privateKey), "key values mismatch")
    for (
      const message of [yield* reasonFor(one.privateKey, one.privateKey), yield* reasonFor("nothing", one.privateKey)]
    ) {
      assert.include(message, "CONTROL_TLS_CERTIFICATE")
      assert.notInclude(message, secret)
    }
    rmSync(files.key)
    assert.include((yield* Effect.flip(makeIngress(files.settings))).message, "ENOENT")
  }))

it.effect("remote plaintext is warned about once for each port, unless a proxy is trusted", () =>
  Effect.gen(function*() {
    const warnings = Effect.fnUntraced(function*(settings: Partial<SettingsValues>) {
      const { ingress, lines, logging } = yield* makeIngress(settings)
      const server = ingress.create("ws", { requestTimeout: 10_000, maxHeaderSize: 8_192 })
      yield* Effect.andThen(ingress.supervise("ws", server), ingress.supervise("api", server)).pipe(logging)
      return lines.filter((line) => line.includes("in plaintext"))
    })
    const open = yield* warnings({ wsHost: "0.0.0.0", apiHost: "::" })
    assert.lengthOf(open, 2)
    for (const line of open) assert.match(line, /CONTROL_TLS_CERTIFICATE.*CONTROL_TRUSTED_PROXIES/u)
    assert.deepStrictEqual(yield* warnings({ wsHost: "127.0.0.1", apiHost: "localhost" }), [])
    const proxy = { address: "10.0.0.1", length: 32, family: "ipv4" } as const
    assert.deepStrictEqual(yield* warnings({ wsHost: "0.0.0.0", trustedProxies: [proxy] }), [])
  }))
