/** PROXY headers on sockets: before TLS, timeout, quotas, and warnings to the operator. */
import { Ingress } from "#ingress/Ingress.ts"
import { remoteOf } from "#ingress/proxyHeaderPhase.ts"
import { WSServer } from "#library/index.ts"
import { defaults, Settings, type SettingsValues } from "#server/Settings.ts"
import { issueCertificate } from "#support/certificates.ts"
import { newDatabase } from "#support/testDatabase.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { balancer, connectThroughProxy, sendPieces, trustedProxies, v1, v2, v2Local } from "#support/proxyHeaders.ts"
import { makeServer } from "#support/TestServer.ts"
import { connect } from "#support/TestClient.ts"
import { assert, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Logger, Option, References, Scope } from "effect"
import { TestClock } from "effect/testing"
import { writeFileSync } from "node:fs"
import type { Server } from "node:http"
import { connect as connectTcp, createServer, type Server as TcpServer, type Socket } from "node:net"
import { join } from "node:path"
import { connect as connectTls, type TLSSocket } from "node:tls"

const on = { proxyProtocol: "ws" as const, ...trustedProxies(balancer) }
const untrusted = "127.0.0.1"
const header = v2({ address: "203.0.113.1", port: 4_711 })
const request = Buffer.from("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")

const portOf = (server: Server | TcpServer) => {
  const address = server.address()
  return typeof address === "object" ? address?.port ?? 0 : 0
}

/** Starts a server that responds with the client address. Time is the test clock; log lines are collected. */
const serve = Effect.fnUntraced(function*(settings: Partial<SettingsValues> = {}, kind: "ws" | "api" = "ws") {
  const lines: Array<string> = []
  const logger = Logger.layer([Logger.make(({ message }) => lines.push(String(message)))])
  const ingress = Context.get(
    yield* Layer.build(
      Ingress.layer.pipe(
        Layer.provide(Settings.layerOf({ ...defaults, ...on, ...settings })),
        Layer.provideMerge(logger),
        Layer.provideMerge(Layer.succeed(References.MinimumLogLevel, "All"))
      )
    ),
    Ingress
  )
  const server = ingress.create(
    kind,
    { requestTimeout: 10_000, maxHeaderSize: 8_192 },
    ({ socket }, response) => response.end(remoteOf(socket).address)
  )
  yield* Effect.provide(ingress.supervise(kind, server), logger)
  yield* Effect.promise(() => new Promise<void>((done) => server.listen(0, "127.0.0.1", done)))
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      server.close()
      server.closeAllConnections()
    })
  )
  return {
    server,
    port: portOf(server),
    lines,
    rejections: () => lines.filter((line) => line.includes("closed a connection"))
  }
})

const closing = (socket: Socket) =>
  Effect.promise(() =>
    socket.closed ? Promise.resolve() : new Promise<void>((done) => socket.once("close", () => done()))
  )

/** Opens a connection that sends `bytes` and stays open until the test ends. */
const openConnection = Effect.fnUntraced(function*(server: Server, from: string, bytes = Buffer.alloc(0)) {
  // Emitted for the connection itself, before any bytes.
  const accepted = new Promise((done) => server.once("connection", done))
  const socket = connectTcp({ port: portOf(server), host: "127.0.0.1", localAddress: from })
  socket.on("error", () => {}).resume()
  yield* Effect.addFinalizer(() => Effect.sync(() => socket.destroy()))
  if (bytes.length > 0) socket.write(bytes)
  yield* Effect.promise(() => accepted)
  return socket
})

const makeFiles = Effect.map(temporaryDirectory, (directory) => {
  const [certificate, key] = [join(directory, "certificate.pem"), join(directory, "key.pem")]
  const write = () => {
    const pair = issueCertificate({ names: ["localhost"] })
    writeFileSync(certificate, pair.certificate)
    writeFileSync(key, pair.privateKey, { mode: 0o600 })
    return pair.certificate
  }
  return { write, settings: { tlsCertificate: Option.some(certificate), tlsPrivateKey: Option.some(key) } }
})

/** Starts TLS on a socket that has sent its header, and returns the server certificate and the response body. */
const askEncrypted = (socket: Socket) =>
  Effect.promise(() =>
    new Promise<{ readonly certificate: string | undefined; readonly answer: string }>((done) => {
      let answer = ""
      let certificate: string | undefined
      const encrypted: TLSSocket = connectTls({ socket, servername: "localhost", rejectUnauthorized: false }, () => {
        certificate = encrypted.getPeerX509Certificate()?.toString()
        encrypted.write(request)
      })
      encrypted.on("error", () => {}).on("data", (data) => answer += String(data))
      encrypted.on("close", () => done({ certificate, answer: answer.split("\r\n\r\n")[1] ?? "" }))
    })
  )

it.effect("a PROXY header is read before TLS, and TLS after it uses the newest certificate", () =>
  Effect.gen(function*() {
    const files = yield* makeFiles
    const first = files.write()
    const { port, rejections } = yield* serve(files.settings)
    const ask = (bytes: Buffer, from = balancer) => askEncrypted(connectThroughProxy(port, bytes, from)())
    for (const address of ["203.0.113.1", "2001:db8::1"]) {
      for (const version of [v1, v2]) {
        const response = yield* ask(version({ address, port: 1 }))
        assert.deepStrictEqual(response, { certificate: first, answer: address })
      }
    }
    assert.strictEqual((yield* ask(Buffer.alloc(0), untrusted)).answer, untrusted)
    const second = files.write()
    yield* TestClock.adjust("5 seconds")
    assert.deepStrictEqual(yield* ask(header), { certificate: second, answer: "203.0.113.1" })
    assert.deepStrictEqual(rejections(), [])
    assert.strictEqual((yield* ask(header, untrusted)).certificate, undefined)
    assert.include(rejections()[0], "not in CONTROL_TRUSTED_PROXIES")
  }))

it.effect("the first bytes of TLS may arrive with the header or byte by byte", () =>
  Effect.gen(function*() {
    const files = yield* makeFiles
    files.write()
    const { port } = yield* serve(files.settings)
    // A proxy in between joins or splits the bytes that it forwards.
    for (const isJoined of [true, false]) {
      const proxy = createServer((near) => {
        const far = connectTcp({ port, host: "127.0.0.1", localAddress: balancer, noDelay: true })
        near.once("data", (hello: Buffer) => {
          const bytes = Buffer.concat([header, hello])
          if (isJoined) far.write(bytes)
          else for (const byte of bytes) far.write(Buffer.from([byte]))
          near.pipe(far).pipe(near)
        })
        near.on("error", () => far.destroy())
        far.on("error", () => near.destroy())
      })
      yield* Effect.promise(() => new Promise<void>((done) => proxy.listen(0, "127.0.0.1", done)))
      yield* Effect.addFinalizer(() => Effect.sync(() => proxy.close()))
      assert.strictEqual((yield* askEncrypted(connectTcp(portOf(proxy), "127.0.0.1"))).answer, "203.0.113.1")
    }
  }))

it.effect("a load balancer without PROXY headers is logged in one line per 10 s, with the setting", () =>
  Effect.gen(function*() {
    const { lines, port, server, rejections } = yield* serve()
    // A connection that ends without bytes is a health check, which is not logged.
    const probe = yield* openConnection(server, balancer)
    probe.end()
    yield* closing(probe)
    for (let time = 0; time < 50; time += 1) assert.strictEqual((yield* sendPieces(port, balancer, request)).status, 0)
    assert.lengthOf(rejections(), 1)
    assert.match(
      rejections()[0] ?? "",
      /closed a connection from 127\.0\.0\.2: .* no PROXY header.*CONTROL_PROXY_PROTOCOL/u
    )
    yield* TestClock.adjust("10 seconds")
    assert.lengthOf(rejections(), 2, "one more was queued")
    assert.lengthOf(lines.filter((line) => line.includes("GET /")), 0, "and no bytes of the request")
    assert.strictEqual((yield* sendPieces(port, balancer, Buffer.concat([header, request]))).body, "203.0.113.1")
  }))

it.effect("a warning at the start says that the API closes connections from this machine", () =>
  Effect.gen(function*() {
    const { lines } = yield* serve({ ...trustedProxies("127.0.0.1"), proxyProtocol: "both" }, "api")
    assert.lengthOf(lines.filter((line) => /health checks on this machine.*CONTROL_PROXY_PROTOCOL/u.test(line)), 1)
    const { lines: others } = yield* serve({ ...trustedProxies("127.0.0.1"), proxyProtocol: "ws" }, "api")
    assert.lengthOf(others.filter((line) => line.includes("on this machine")), 0)
  }))

it.effect("a connection without a complete PROXY header is closed after 10 s, also if it sends slowly", () =>
  Effect.gen(function*() {
    const { server, rejections } = yield* serve()
    const silent = yield* openConnection(server, untrusted)
    const slow = yield* openConnection(server, balancer)
    const open = yield* openConnection(server, balancer, header)
    for (const byte of header.subarray(0, 10)) {
      slow.write(Buffer.from([byte]))
      yield* TestClock.adjust("1 second")
    }
    yield* closing(silent)
    yield* closing(slow)
    yield* TestClock.adjust("10 seconds")
    assert.lengthOf(rejections(), 1)
    assert.include(rejections()[0], "no PROXY header arrived within 10 s")
    assert.isFalse(open.destroyed)
  }))

it.effect("silent connections use the quota of their own address, not the quota of the balancer", () =>
  Effect.gen(function*() {
    const { port, server } = yield* serve({ maxUnauthenticatedPerIp: 1, maxUnauthenticated: 2 })
    const first = yield* openConnection(server, untrusted)
    yield* closing(yield* openConnection(server, untrusted))
    yield* openConnection(server, "127.0.0.3")
    yield* closing(yield* openConnection(server, "127.0.0.4"))
    assert.strictEqual((yield* sendPieces(port, balancer, Buffer.concat([header, request]))).body, "203.0.113.1")
    first.destroy()
    // Retry until the slot is free again.
    const responseBody = Effect.map(sendPieces(port, untrusted, request), ({ body }) => body)
    assert.strictEqual(yield* Effect.repeat(responseBody, { until: (body) => body !== "" }), untrusted)
    assert.strictEqual(yield* responseBody, untrusted)
  }))

it.effect("the client address of a header is forgotten when its connection closes", () =>
  Effect.gen(function*() {
    const files = yield* makeFiles
    files.write()
    for (const settings of [{}, files.settings]) {
      const { port, server } = yield* serve(settings)
      const socket = connectThroughProxy(port, header)()
      yield* Effect.promise(() => new Promise((done) => server.once("connection", done)))
      const ends = { remoteAddress: balancer, remotePort: socket.localPort, localAddress: untrusted, localPort: port }
      const currentAddress = Effect.sync(() => remoteOf(ends).address)
      const isNow = (address: string) =>
        Effect.repeat(Effect.andThen(turn, currentAddress), { until: (seen) => seen === address })
      yield* isNow("203.0.113.1")
      yield* askEncrypted(socket)
      yield* isNow(balancer)
    }
  }))

const turn = Effect.promise(() => new Promise((done) => setImmediate(done)))

it.effect("a stopping server closes connections without a header at once", () =>
  Effect.gen(function*() {
    const { server } = yield* serve()
    const pending = [
      yield* openConnection(server, untrusted),
      yield* openConnection(server, balancer, header.subarray(0, 5))
    ]
    yield* Effect.promise(() => new Promise((done) => server.close(done)))
    for (const socket of pending) yield* closing(socket)
  }))

it.live("a stopping Control process closes connections without a header on both ports", () =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const { apiUrl, wsPort } = yield* Scope.provide(makeServer({ ...on, proxyProtocol: "both" }), scope)
    const sockets = [wsPort, Number(new URL(apiUrl).port)].flatMap((port) => [
      connectTcp({ port, host: "127.0.0.1" }).on("error", () => {}).resume(),
      connectThroughProxy(port, header.subarray(0, 20))().on("error", () => {}).resume()
    ])
    yield* Effect.promise(() => Promise.all(sockets.map((socket) => new Promise((done) => socket.on("connect", done)))))
    yield* Scope.close(scope, Exit.void)
    for (const socket of sockets) yield* closing(socket)
  }), 20_000)

it.live(
  "the library reads headers, also of connections before it is ready, but only with the setting",
  () =>
    Effect.gen(function*() {
      const { url } = yield* newDatabase
      const env = {
        DATABASE_URL: url,
        CONTROL_WS_HOST: "127.0.0.1",
        CONTROL_LOG_LEVEL: "none",
        CONTROL_DATA_DIR: yield* temporaryDirectory,
        CONTROL_TRUSTED_PROXIES: balancer
      }
      const port = yield* Effect.promise(() =>
        new Promise<number>((done) => {
          const server = createServer().listen(0, "127.0.0.1", () => {
            const free = portOf(server)
            server.close(() => done(free))
          })
        })
      )
      const begin = (more: object) =>
        Effect.acquireRelease(
          Effect.sync(() => new WSServer(port, { env: { ...env, ...more, CONTROL_WS_PORT: String(port) } })),
          (server) => Effect.promise(() => server.close())
        )
      const join = (bytes: Buffer) => connect(port, "", { createConnection: connectThroughProxy(port, bytes) })
      yield* Effect.scoped(Effect.gen(function*() {
        const server = yield* begin({ CONTROL_PROXY_PROTOCOL: "ws" })
        const early = yield* Effect.retry(join(v2Local), { times: 200 })
        yield* Effect.promise(() => server.ready)
        assert.strictEqual(early.ws.readyState, early.ws.OPEN)
        assert.include((yield* Effect.flip(join(Buffer.alloc(0)))).message, "socket hang up")
      }))
      const server = yield* begin({})
      yield* Effect.promise(() => server.ready)
      yield* join(Buffer.alloc(0))
      assert.include((yield* Effect.flip(join(header))).message, "400")
    }),
  30_000
)
