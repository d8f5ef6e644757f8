/** WebSockets and other upgrades through the HTTP front. */
import { assert, describe, it } from "@effect/vitest"
import { once } from "node:events"
import { createServer as createHttp } from "node:http"
import { type Socket } from "node:net"
import { WebSocket, WebSocketServer } from "ws"
import { closeAfterTest, http2Visit, listen, raw, route, startFront, until, visit } from "./httpKit.ts"

const host = "plain.example.com"
const secureHost = "app.example.com"

/** A WebSocket service that echoes; other requests get 200, and `/refused` gets 403. */
const startEcho = async () => {
  const upgrades: Array<string> = []
  const server = createHttp((request, response) => response.end(`plain ${request.headers.upgrade ?? "request"}`))
  const sockets = new WebSocketServer({ noServer: true })
  server.on("upgrade", (request, socket, head) => {
    upgrades.push(request.headers["x-forwarded-for"] as string)
    closeAfterTest(socket)
    if (request.url === "/refused") return socket.end("HTTP/1.1 403 Forbidden\r\nX-A: 1\r\nContent-Length: 2\r\n\r\nno")
    if (request.headers.upgrade === "echo") {
      socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
      return void socket.pipe(socket)
    }
    sockets.handleUpgrade(request, socket as Socket, head, (ws) => {
      ws.on("message", (data, isBinary) => ws.send(data, { binary: isBinary }))
    })
  })
  return { port: await listen(server), sockets, upgrades }
}

describe("upgrades", () => {
  it("a WebSocket echoes through HTTP/1.1, and its close reaches both sides", async () => {
    const { port, sockets, upgrades } = await startEcho()
    const { front, httpPort, log } = await startFront([route(host, port)])
    const socket = new WebSocket(`ws://127.0.0.1:${httpPort}/`, { headers: { Host: host } })
    await once(socket, "open")
    for (const text of ["a", "b".repeat(100_000)]) {
      socket.send(text)
      const [echo] = await once(socket, "message") as [Buffer]
      assert.strictEqual(echo.toString(), text)
    }
    assert.deepStrictEqual(upgrades, ["127.0.0.1"])
    assert.strictEqual(front.openRequests, 1)
    socket.close(4_000, "bye")
    const [code, reason] = await once(socket, "close") as [number, Buffer]
    assert.deepStrictEqual([code, reason.toString()], [4_000, "bye"])
    await until(() => sockets.clients.size === 0 && front.openRequests === 0)
    assert.strictEqual(log[0]?.status, 101)
    assert.isAbove(log[0]?.receivedBytes ?? 0, 100_000)
    assert.isAbove(log[0]?.sentBytes ?? 0, 100_000)
  })

  it("a WebSocket echoes through HTTP/2 by an extended CONNECT", async () => {
    const { port, upgrades } = await startEcho()
    const { front, httpsPort, log } = await startFront([route(secureHost, port)])
    const session = await http2Visit(httpsPort, secureHost)
    assert.isTrue(session.remoteSettings.enableConnectProtocol)
    const stream = session.request({
      ":method": "CONNECT",
      ":protocol": "websocket",
      ":path": "/chat",
      "sec-websocket-version": "13"
    })
    const [headers] = await once(stream, "response") as [Record<string, unknown>]
    assert.strictEqual(headers[":status"], 200)
    assert.isUndefined(headers["sec-websocket-accept"])
    // A masked text frame with "hi" and the mask 0.
    stream.write(Buffer.of(0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69))
    const [frame] = await once(stream, "data") as [Buffer]
    assert.deepStrictEqual([...frame], [0x81, 2, 0x68, 0x69])
    assert.deepStrictEqual(upgrades, ["127.0.0.1"])
    stream.close()
    await until(() => front.openRequests === 0)
    assert.strictEqual(log.length, 1)
  })

  it("a refused upgrade gets the service's own answer, over both versions", async () => {
    const { port } = await startEcho()
    const { front, httpPort, httpsPort } = await startFront([route(host, port), route(secureHost, port)])
    const answer = await raw(
      httpPort,
      `GET /refused HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`
    )
    assert.match(answer, /^HTTP\/1\.1 403 Forbidden\r\nX-A: 1\r\n[^]*\r\n\r\nno$/u)
    const stream = (await http2Visit(httpsPort, secureHost)).request({
      ":method": "CONNECT",
      ":protocol": "websocket",
      ":path": "/refused"
    })
    const [headers] = await once(stream, "response") as [Record<string, unknown>]
    assert.strictEqual(headers[":status"], 403)
    stream.resume()
    await until(() => front.openRequests === 0)
  })

  it("an upgrade to h2c, or with a body, is forwarded as an ordinary request", async () => {
    const { port, upgrades } = await startEcho()
    const { httpPort } = await startFront([route(host, port)])
    const start = `GET / HTTP/1.1\r\nHost: ${host}\r\n`
    const h2c = await raw(
      httpPort,
      `${start}Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n`
    )
    assert.match(h2c, /^HTTP\/1\.1 200 [^]*plain request/u)
    const body = `${start}Connection: Upgrade, close\r\nUpgrade: websocket\r\nContent-Length: 1\r\n\r\nx`
    assert.match(await raw(httpPort, body), /^HTTP\/1\.1 200 [^]*plain request/u)
    assert.deepStrictEqual(upgrades, [])
  })

  it("bytes right behind an upgrade request reach the service, and an abort of the visitor ends both", async () => {
    const { port } = await startEcho()
    const tunnel = route(host, port)
    const { front, httpPort } = await startFront([tunnel])
    const socket = await visit(httpPort)
    socket.write(`GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly`)
    let text = ""
    socket.on("data", (chunk: Buffer) => void (text += chunk.toString()))
    await until(() => text.endsWith("early"))
    assert.match(text, /^HTTP\/1\.1 101 /u)
    socket.resetAndDestroy()
    await until(() => front.openRequests === 0 && tunnel.opened[0]?.destroyed === true)
  })

  it("an upgraded connection is cut when its route is retired and when it is idle", async () => {
    const { port } = await startEcho()
    const tunnel = route(host, port)
    const { clock, front, httpPort } = await startFront([tunnel])
    const open = async () => {
      const socket = new WebSocket(`ws://127.0.0.1:${httpPort}/`, { headers: { Host: host } })
      await once(socket.on("error", () => {}), "open")
      return { closed: once(socket, "close") }
    }
    const retired = await open()
    front.retire(tunnel, 30_000)
    clock.advance(29_000)
    assert.strictEqual(front.openRequests, 1)
    clock.advance(1_000)
    await until(() => front.openRequests === 0)
    await retired.closed
    const idle = await open()
    clock.advance(3_602_000)
    await until(() => front.openRequests === 0)
    await idle.closed
  })
})
