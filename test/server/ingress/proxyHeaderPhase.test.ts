/** The time before a header has come: in front of TLS, for how long, of how many, and what an operator is told. */
import { Ingress } from "#ingress/Ingress.ts"
import { remoteOf } from "#ingress/proxyHeaderPhase.ts"
import { WSServer } from "#library/index.ts"
import { defaults, Settings, type SettingsValues } from "#server/Settings.ts"
import { issueCertificate } from "#support/certificates.ts"
import { newDatabase } from "#support/database.ts"
import { temporaryDirectory } from "#support/process.ts"
import { balancer, send, through, trusting, v1, v2, v2Local } from "#support/proxyHeaders.ts"
import { makeServer } from "#support/server.ts"
import { connect } from "#support/TestClient.ts"
import { assert, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Logger, Option, References, Scope } from "effect"
import { TestClock } from "effect/testing"
import { writeFileSync } from "node:fs"
import type { Server } from "node:http"
import { connect as connectTcp, createServer, type Server as TcpServer, type Socket } from "node:net"
import { join } from "node:path"
import { connect as connectTls, type TLSSocket } from "node:tls"

const on = { proxyProtocol: "ws" as const, ...trusting(balancer) }
const stranger = "127.0.0.1"
const header = v2({ address: "203.0.113.1", port: 4_711 })
const request = Buffer.from("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")

const portOf = (server: Server | TcpServer) => {
  const address = server.address()
  return typeof address === "object" ? address?.port ?? 0 : 0
}

/** A server that answers with the address that it takes its client for; the test moves the time, and sees what is logged. */
const serve = Effect.fnUntraced(function*(settings: Partial<SettingsValues> = {}, kind: "ws" | "api" = "ws") {
  const lines: Array<string> = []
  const logger = Logger.layer([Logger.make(({ message }) => lines.push(String(message)))])
  const edge = Context.get(
    yield* Layer.build(
      Ingress.layer.pipe(
        Layer.provide(Settings.layerOf({ ...defaults, ...on, ...settings })),
        Layer.provideMerge(logger),
        Layer.provideMerge(Layer.succeed(References.MinimumLogLevel, "All"))
      )
    ),
    Ingress
  )
  const server = edge.create(
    kind,
    { requestTimeout: 10_000, maxHeaderSize: 8_192 },
    ({ socket }, response) => response.end(remoteOf(socket).address)
  )
  yield* Effect.provide(edge.supervise(kind, server), logger)
  yield* Effect.promise(() => new Promise<void>((done) => server.listen(0, "127.0.0.1", done)))
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      server.close()
      server.closeAllConnections()
    })
  )
  return { server, port: portOf(server), lines, troubles: () => lines.filter((line) => line.includes("was closed")) }
})

const closing = (socket: Socket) =>
  Effect.promise(() =>
    socket.closed ? Promise.resolve() : new Promise<void>((done) => socket.once("close", () => done()))
  )

/** Says what it is told to, and lives until the test ends. */
const visit = Effect.fnUntraced(function*(server: Server, from: string, bytes = Buffer.alloc(0)) {
  // Comes with the connection itself, whatever has been said in it.
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

/** TLS through a socket that has sent its header: the certificate that is shown, and what is answered. */
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

it.effect("a header comes before TLS, and the newest certificate is shown behind it", () =>
  Effect.gen(function*() {
    const files = yield* makeFiles
    const first = files.write()
    const { port, troubles } = yield* serve(files.settings)
    const ask = (bytes: Buffer, from = balancer) => askEncrypted(through(port, bytes, from)())
    for (const address of ["203.0.113.1", "2001:db8::1"]) {
      for (const version of [v1, v2]) {
        const told = yield* ask(version({ address, port: 1 }))
        assert.deepStrictEqual(told, { certificate: first, answer: address })
      }
    }
    assert.strictEqual((yield* ask(Buffer.alloc(0), stranger)).answer, stranger)
    const second = files.write()
    yield* TestClock.adjust("5 seconds")
    assert.deepStrictEqual(yield* ask(header), { certificate: second, answer: "203.0.113.1" })
    assert.deepStrictEqual(troubles(), [])
    assert.strictEqual((yield* ask(header, stranger)).certificate, undefined)
    assert.include(troubles()[0], "none of CONTROL_TRUSTED_PROXIES")
  }))

it.effect("the first bytes of TLS may come with the header, or each by itself", () =>
  Effect.gen(function*() {
    const files = yield* makeFiles
    files.write()
    const { port } = yield* serve(files.settings)
    // Between the two, a proxy that joins or splits what it passes on.
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

it.effect("a balancer that is set up wrongly is told of in one line at a time, with what is expected", () =>
  Effect.gen(function*() {
    const { lines, port, server, troubles } = yield* serve()
    // It looks whether anybody listens: nothing to tell of.
    const probe = yield* visit(server, balancer)
    probe.end()
    yield* closing(probe)
    for (let time = 0; time < 50; time += 1) assert.strictEqual((yield* send(port, balancer, request)).status, 0)
    assert.lengthOf(troubles(), 1)
    assert.match(
      troubles()[0] ?? "",
      /closed a connection from 127\.0\.0\.2: .* no PROXY header.*CONTROL_PROXY_PROTOCOL/u
    )
    yield* TestClock.adjust("10 seconds")
    assert.lengthOf(troubles(), 2, "one more had waited")
    assert.lengthOf(lines.filter((line) => line.includes("GET /")), 0, "and nothing of what it sent")
    assert.strictEqual((yield* send(port, balancer, Buffer.concat([header, request]))).body, "203.0.113.1")
  }))

it.effect("an operator is warned at the start where the API closes what comes from this machine", () =>
  Effect.gen(function*() {
    const { lines } = yield* serve({ ...trusting("127.0.0.1"), proxyProtocol: "both" }, "api")
    assert.lengthOf(lines.filter((line) => /health checks on this machine.*CONTROL_PROXY_PROTOCOL/u.test(line)), 1)
    const { lines: others } = yield* serve({ ...trusting("127.0.0.1"), proxyProtocol: "ws" }, "api")
    assert.lengthOf(others.filter((line) => line.includes("on this machine")), 0)
  }))

it.effect("who has not sent a header within ten seconds is cut, however slowly it goes on; who has is not", () =>
  Effect.gen(function*() {
    const { server, troubles } = yield* serve()
    const silent = yield* visit(server, stranger)
    const slow = yield* visit(server, balancer)
    const open = yield* visit(server, balancer, header)
    for (const byte of header.subarray(0, 10)) {
      slow.write(Buffer.from([byte]))
      yield* TestClock.adjust("1 second")
    }
    yield* closing(silent)
    yield* closing(slow)
    yield* TestClock.adjust("10 seconds")
    assert.lengthOf(troubles(), 1)
    assert.include(troubles()[0], "not come in time")
    assert.isFalse(open.destroyed)
  }))

it.effect("who says nothing takes a place among those of its address, and none of the balancer's", () =>
  Effect.gen(function*() {
    const { port, server } = yield* serve({ maxUnauthenticatedPerIp: 1, maxUnauthenticated: 2 })
    const first = yield* visit(server, stranger)
    yield* closing(yield* visit(server, stranger))
    yield* visit(server, "127.0.0.3")
    yield* closing(yield* visit(server, "127.0.0.4"))
    assert.strictEqual((yield* send(port, balancer, Buffer.concat([header, request]))).body, "203.0.113.1")
    first.destroy()
    // Until its place is free again.
    const asked = Effect.map(send(port, stranger, request), ({ body }) => body)
    assert.strictEqual(yield* Effect.repeat(asked, { until: (body) => body !== "" }), stranger)
    assert.strictEqual(yield* asked, stranger)
  }))

it.effect("what a header has told is forgotten with its connection", () =>
  Effect.gen(function*() {
    const files = yield* makeFiles
    files.write()
    for (const settings of [{}, files.settings]) {
      const { port, server } = yield* serve(settings)
      const socket = through(port, header)()
      yield* Effect.promise(() => new Promise((done) => server.once("connection", done)))
      const ends = { remoteAddress: balancer, remotePort: socket.localPort, localAddress: stranger, localPort: port }
      const told = Effect.sync(() => remoteOf(ends).address)
      const isNow = (address: string) =>
        Effect.repeat(Effect.andThen(turn, told), { until: (seen) => seen === address })
      yield* isNow("203.0.113.1")
      yield* askEncrypted(socket)
      yield* isNow(balancer)
    }
  }))

const turn = Effect.promise(() => new Promise((done) => setImmediate(done)))

it.effect("a server that stops waits for nobody who has not sent a header", () =>
  Effect.gen(function*() {
    const { server } = yield* serve()
    const waiting = [yield* visit(server, stranger), yield* visit(server, balancer, header.subarray(0, 5))]
    yield* Effect.promise(() => new Promise((done) => server.close(done)))
    for (const socket of waiting) yield* closing(socket)
  }))

it.live("nor does a whole Control, on either port", () =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    const { apiUrl, wsPort } = yield* Scope.provide(makeServer({ ...on, proxyProtocol: "both" }), scope)
    const sockets = [wsPort, Number(new URL(apiUrl).port)].flatMap((port) => [
      connectTcp({ port, host: "127.0.0.1" }).on("error", () => {}).resume(),
      through(port, header.subarray(0, 20))().on("error", () => {}).resume()
    ])
    yield* Effect.promise(() => Promise.all(sockets.map((socket) => new Promise((done) => socket.on("connect", done)))))
    yield* Scope.close(scope, Exit.void)
    for (const socket of sockets) yield* closing(socket)
  }), 20_000)

it.live(
  "the library reads headers, too, also of who comes before it is ready; without the setting nothing reads any",
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
      const join = (bytes: Buffer) => connect(port, "", { createConnection: through(port, bytes) })
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
