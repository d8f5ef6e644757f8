/** Traffic of every protocol through a gateway, real WireGuard in userspace and an agent to real services. */
import { issueCertificate } from "#support/certificates.ts"
import { freePort } from "#support/freePort.ts"
import { TestServer } from "#support/TestServer.ts"
import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { createHash, randomBytes } from "node:crypto"
import { createSocket } from "node:dgram"
import { once } from "node:events"
import { createServer as createHttp, request } from "node:http"
import { connect as connectHttp2 } from "node:http2"
import { type AddressInfo, connect, createServer, type Server } from "node:net"
import type { Readable } from "node:stream"
import { connect as connectTls, createServer as createTls } from "node:tls"
import { WebSocket, WebSocketServer } from "ws"
import { startTunnelNetwork, type TunnelNetwork } from "./TunnelNetwork.ts"

class SharedNetwork extends Context.Service<SharedNetwork, TunnelNetwork>()("test/tunnel/SharedNetwork") {
  static readonly layer = Layer.effect(SharedNetwork, startTunnelNetwork).pipe(Layer.provideMerge(TestServer.layer()))
}

const listening = (server: Server): Effect.Effect<number> =>
  Effect.promise(async () => {
    server.listen(0, "127.0.0.1")
    await once(server, "listening")
    server.unref()
    return (server.address() as AddressInfo).port
  })

const hashOf = async (stream: Readable): Promise<string> => {
  const hash = createHash("sha256")
  for await (const chunk of stream) hash.update(chunk)
  return hash.digest("hex")
}

const sha256 = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex")

/** A web service: echoes what it gets, with a trailer, and streams events that the test releases. */
const startWeb = Effect.gen(function*() {
  const server = createHttp((request, response) => {
    if (request.url === "/headers") return void response.end(JSON.stringify(request.headers))
    response.writeHead(200, { Trailer: "X-Bytes" })
    let bytes = 0
    request.on("data", (chunk: Buffer) => void (bytes += chunk.length)).pipe(response, { end: false })
    request.on("end", () => {
      response.addTrailers({ "X-Bytes": String(bytes) })
      response.end()
    })
  })
  const sockets = new WebSocketServer({ server })
  sockets.on("connection", (socket) => socket.on("message", (data) => socket.send(String(data).toUpperCase())))
  return yield* listening(server)
})

const post = async (port: number, host: string, body: Buffer) => {
  const sent = request({ host: "127.0.0.1", port, method: "POST", headers: { host }, agent: false })
  sent.end(body)
  const [response] = await once(sent, "response")
  return { status: response.statusCode, hash: await hashOf(response), trailers: response.trailers }
}

layer(SharedNetwork.layer, { excludeTestServices: true, timeout: 60_000 })("traffic through a tunnel", (it) => {
  it.effect("a web page, an upload with its trailer, 50 requests at once and a WebSocket pass", () =>
    Effect.gen(function*() {
      const { expose, httpPort } = yield* SharedNetwork
      const web = yield* startWeb
      yield* expose({ domain: "web.example.com", target: `127.0.0.1:${web}` })
      const body = randomBytes(2_000_000)
      const answer = yield* Effect.promise(() => post(httpPort, "web.example.com", body))
      assert.deepStrictEqual(answer, { status: 200, hash: sha256(body), trailers: { "x-bytes": "2000000" } })
      const small = Array.from({ length: 50 }, () => randomBytes(20_000))
      const answers = yield* Effect.promise(() =>
        Promise.all(small.map((one) => post(httpPort, "web.example.com", one)))
      )
      assert.deepStrictEqual(answers.map(({ hash }) => hash), small.map(sha256))
      const socket = new WebSocket(`ws://127.0.0.1:${httpPort}/chat`, { headers: { host: "web.example.com" } })
      yield* Effect.promise(() => once(socket, "open"))
      socket.send("hello")
      const [reply] = yield* Effect.promise(() => once(socket, "message"))
      assert.strictEqual(String(reply), "HELLO")
      socket.terminate()
    }))

  it.effect("a name with a certificate is redirected to https, and served with HTTP/2", () =>
    Effect.gen(function*() {
      const { expose, httpPort, httpsPort } = yield* SharedNetwork
      const { operator } = yield* TestServer
      const web = yield* startWeb
      const { certificate, privateKey } = issueCertificate({ names: ["safe.example.com"] })
      yield* Effect.promise(() =>
        operator.put("/api/certificates/safe.example.com?wait=applied", { certificate, privateKey })
      )
      yield* expose({ domain: "safe.example.com", target: `127.0.0.1:${web}` })
      const redirect = yield* Effect.promise(async () => {
        const sent = request({ host: "127.0.0.1", port: httpPort, path: "/a?b", headers: { host: "safe.example.com" } })
          .end()
        const [response] = await once(sent, "response")
        response.resume()
        return [response.statusCode, response.headers.location]
      })
      assert.deepStrictEqual(redirect, [308, "https://safe.example.com/a?b"])
      const headers = yield* Effect.promise(async () => {
        const session = connectHttp2("https://safe.example.com", {
          createConnection: () =>
            connectTls({
              host: "127.0.0.1",
              port: httpsPort,
              servername: "safe.example.com",
              ca: certificate,
              ALPNProtocols: ["h2"]
            })
        })
        const stream = session.request({ ":path": "/headers", "x-forwarded-for": "198.51.100.1" })
        let text = ""
        for await (const chunk of stream) text += String(chunk)
        session.close()
        return JSON.parse(text)
      })
      assert.deepInclude(headers, {
        "x-forwarded-for": "127.0.0.1",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "safe.example.com"
      })
    }))

  it.effect("tcp passes with half-close and a PROXY header, and tls passes through undecrypted", () =>
    Effect.gen(function*() {
      const { expose, httpsPort } = yield* SharedNetwork
      const game = createServer({ allowHalfOpen: true }, (socket) => {
        const chunks: Array<Buffer> = []
        socket.on("data", (chunk) => chunks.push(chunk)).on("end", () => socket.end(Buffer.concat(chunks)))
      })
      const listenPort = yield* Effect.promise(freePort)
      const target = `127.0.0.1:${yield* listening(game)}`
      yield* expose({ name: "game", protocol: "tcp", listenPort, proxyProtocol: "v1", target })
      const echoed = yield* Effect.promise(async () => {
        const socket = connect({ host: "127.0.0.1", port: listenPort, allowHalfOpen: true })
        socket.end("ping")
        let text = ""
        for await (const chunk of socket) text += String(chunk)
        return text
      })
      assert.match(echoed, new RegExp(`^PROXY TCP4 127\\.0\\.0\\.1 127\\.0\\.0\\.1 \\d+ ${listenPort}\r\nping$`, "u"))
      const { certificate, privateKey } = issueCertificate({ names: ["pass.example.com"] })
      const own = createTls({ cert: certificate, key: privateKey }, (socket) => socket.end("from the service"))
      const protocol = "tls"
      yield* expose({ domain: "pass.example.com", protocol, target: `127.0.0.1:${yield* listening(own)}` })
      const text = yield* Effect.promise(async () => {
        const socket = connectTls({
          host: "127.0.0.1",
          port: httpsPort,
          servername: "pass.example.com",
          ca: certificate
        })
        let received = ""
        for await (const chunk of socket) received += String(chunk)
        return received
      })
      assert.strictEqual(text, "from the service")
    }))

  it.effect("udp datagrams of two visitors reach the service and come back to the right one", () =>
    Effect.gen(function*() {
      const { expose } = yield* SharedNetwork
      const echo = createSocket("udp4")
      echo.on("message", (data, from) => echo.send(`echo ${data}`, from.port, from.address))
      echo.bind(0, "127.0.0.1")
      yield* Effect.promise(() => once(echo, "listening"))
      const listenPort = yield* Effect.promise(freePort)
      yield* expose({ name: "voice", protocol: "udp", listenPort, target: `127.0.0.1:${echo.address().port}` })
      const answers = yield* Effect.promise(() =>
        Promise.all(["one", "two"].map(async (word) => {
          const visitor = createSocket("udp4")
          visitor.send(word, listenPort, "127.0.0.1")
          const [answer] = await once(visitor, "message")
          visitor.close()
          return String(answer)
        }))
      )
      assert.deepStrictEqual(answers, ["echo one", "echo two"])
      echo.close()
    }))

  it.effect("a service that is away is reported, and served again when it is back", () =>
    Effect.gen(function*() {
      const { agentId, gatewayId, httpPort } = yield* SharedNetwork
      const { operator } = yield* TestServer
      const port = yield* Effect.promise(freePort)
      const target = `127.0.0.1:${port}`
      const { id } = yield* Effect.promise(async () => {
        const { body } = await operator.post("/api/tunnels?wait=applied", {
          agentId,
          domain: "away.example.com",
          target
        })
        return body
      })
      const away = yield* Effect.promise(() => post(httpPort, "away.example.com", Buffer.alloc(0)))
      assert.strictEqual(away.status, 503)
      const server = createHttp((_request, response) => void response.end("back"))
      server.listen(port, "127.0.0.1").unref()
      yield* Effect.promise(() => once(server, "listening"))
      const back = yield* Effect.promise(() => post(httpPort, "away.example.com", Buffer.alloc(0)))
      assert.strictEqual(back.status, 200)
      const served = yield* Effect.promise(() => operator.patch(`/api/tunnels/${id}?wait=serving&timeout=20s`, {}))
      assert.deepInclude(served.body.delivery.serving[0], { gatewayId, status: "serving" })
    }))
})
