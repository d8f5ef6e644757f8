/** Bodies that begin late, answers to refused upgrades, and many requests at a time. */
import { assert, describe, it } from "@effect/vitest"
import { once } from "node:events"
import {
  createServer as createHttp,
  type IncomingMessage,
  request as httpRequest,
  type ServerResponse
} from "node:http"
import {
  http2Visit,
  listen,
  raw,
  route,
  startFront,
  startService,
  textOf,
  until,
  untilClosed,
  visit
} from "./httpKit.ts"

const host = "plain.example.com"
const secureHost = "app.example.com"
const good = `Host: ${host}\r\n`

const statusesOf = (answer: string) => [...answer.matchAll(/HTTP\/1\.1 (\d+)/gu)].map(([, status]) => Number(status))

describe("streaming", () => {
  it("a service can answer before the body begins, and both bodies pass piece by piece over both versions", async () => {
    const port = await startService((request, response) => {
      response.flushHeaders()
      request.on("data", (chunk: Buffer) => response.write(`echo ${chunk.toString()}`)).on("end", () => response.end())
    })
    const { httpPort, httpsPort } = await startFront([route(host, port), route(secureHost, port)])
    const request = httpRequest({ port: httpPort, method: "POST", headers: { Host: host }, agent: false })
    request.flushHeaders()
    const [response] = await once(request, "response") as [IncomingMessage]
    const stream = (await http2Visit(httpsPort, secureHost)).request({ ":method": "POST", ":path": "/" })
    await once(stream, "response")
    for (const [upload, download] of [[request, response], [stream, stream]] as const) {
      for (const text of ["a", "b"]) {
        upload.write(text)
        const [chunk] = await once(download, "data") as [Buffer]
        assert.strictEqual(chunk.toString(), `echo ${text}`)
      }
      upload.end()
      await once(download.resume(), "end")
    }
  })

  it("a long answer to a refused upgrade arrives complete", async () => {
    const server = createHttp()
    const size = 8_000_000
    server.on("upgrade", (_request, socket) => {
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${size}\r\n\r\n`)
      socket.end(Buffer.alloc(size, "x"))
    })
    const { httpPort } = await startFront([route(host, await listen(server))])
    const request = httpRequest({
      port: httpPort,
      headers: { Host: host, Connection: "Upgrade", Upgrade: "websocket" },
      agent: false
    }).end()
    const [response] = await once(request, "response") as [IncomingMessage]
    assert.strictEqual((await textOf(response)).length, size)
  })

  it("fields with UTF-8 bytes pass unchanged in both directions over both versions", async () => {
    const value = Buffer.from("é ☃").toString("latin1")
    const seen: Array<unknown> = []
    const port = await startService((request, response) => {
      seen.push(request.headers["x-name"])
      response.setHeader("X-Name", request.headers["x-name"] ?? "").end()
    })
    const { httpPort, httpsPort } = await startFront([route(host, port), route(secureHost, port)])
    const answer = await raw(httpPort, `GET / HTTP/1.1\r\n${good}X-Name: ${value}\r\nConnection: close\r\n\r\n`)
    assert.include(answer, `X-Name: ${value}\r\n`)
    const stream = (await http2Visit(httpsPort, secureHost)).request({ ":path": "/", "x-name": value })
    const [headers] = await once(stream, "response") as [Record<string, unknown>]
    assert.deepStrictEqual([headers["x-name"], ...seen], [value, value, value])
  })

  it("an answer of the gateway to an expected body ends the connection", async () => {
    const { httpPort } = await startFront([])
    const answer = await raw(httpPort, `POST / HTTP/1.1\r\n${good}Expect: 100-continue\r\nContent-Length: 9\r\n\r\n`)
    assert.match(answer, /^HTTP\/1\.1 404 [^]*\r\nConnection: close\r\n/u)
  })

  it("pipelined requests are answered in their order, and a closed connection ends all of them", async () => {
    const open: Array<ServerResponse> = []
    const port = await startService((request, response) => void (open[Number(request.url?.slice(1))] = response))
    const { front, httpPort, log } = await startFront([route(host, port)])
    const lines = [0, 1, 2].map((at) => `GET /${at} HTTP/1.1\r\n${good}\r\n`).join("")
    const socket = await visit(httpPort)
    const answer = untilClosed(socket.on("data", () => socket.end()))
    socket.write(lines)
    await until(() => open.filter(Boolean).length === 3)
    for (const at of [2, 1, 0]) open[at]?.end(`answer ${at}.`)
    assert.match(await answer, /answer 0[^]*answer 1[^]*answer 2/u)
    await until(() => front.openRequests === 0)
    open.length = 0
    const leaving = await visit(httpPort)
    leaving.write(lines)
    await until(() => open.filter(Boolean).length === 3)
    leaving.resetAndDestroy()
    await until(() => front.openRequests === 0)
    assert.lengthOf(log, 6)
  })

  it("a connection with too many pipelined requests is closed", async () => {
    const port = await startService(() => {})
    const { front, httpPort } = await startFront([route(host, port)], { limits: { maxStreams: 10 } })
    assert.strictEqual(await raw(httpPort, `GET / HTTP/1.1\r\n${good}\r\n`.repeat(12)), "")
    await until(() => front.openRequests === 0)
  })

  it.each([
    ["of one visitor", { maxRequestsPerVisitor: 1 }, 429],
    ["of all visitors", { maxRequests: 1 }, 503]
  ])(
    "requests %s above the limit are rejected, and served when another one has ended",
    async (_name, limits, status) => {
      const open: Array<ServerResponse> = []
      const port = await startService((_request, response) => void open.push(response))
      const { front, httpPort } = await startFront([route(host, port)], { limits })
      const get = `GET / HTTP/1.1\r\n${good}Connection: close\r\n\r\n`
      const first = raw(httpPort, get)
      await until(() => open.length === 1)
      const rejected = await raw(httpPort, get)
      assert.deepStrictEqual(statusesOf(rejected), [status])
      assert.match(rejected, /\r\nRetry-After: 1\r\n/u)
      open[0]?.end()
      assert.deepStrictEqual(statusesOf(await first), [200])
      await until(() => front.openRequests === 0)
      const second = raw(httpPort, get)
      await until(() => open.length === 2)
      open[1]?.end()
      assert.deepStrictEqual(statusesOf(await second), [200])
    }
  )

  it("fields of HTTP/2 above the limits end the stream before a service sees it", async () => {
    let requests = 0
    const port = await startService((_request, response) => {
      requests += 1
      response.end()
    })
    const { httpsPort } = await startFront([route(secureHost, port)], {
      limits: { maxHeaders: 10, maxHeaderBytes: 2_000 }
    })
    const session = await http2Visit(httpsPort, secureHost)
    const many = Object.fromEntries(Array.from({ length: 30 }, (_, at) => [`x-${at}`, "1"]))
    for (const fields of [many, { x: "x".repeat(3_000) }]) {
      const stream = session.request({ ":path": "/", ...fields })
      await new Promise((done) => stream.on("error", () => {}).once("close", done))
      assert.notStrictEqual(stream.rstCode, 0)
    }
    assert.strictEqual(requests, 0)
  })

  it("a service may answer later than the time-out of idle connections to it", async () => {
    let answer = () => {}
    const port = await startService((request, response) => {
      answer = () => void response.end("late")
      if (request.url === "/fast") answer()
    })
    const tunnel = route(host, port)
    const { front, httpPort } = await startFront([tunnel], { limits: { poolIdleMillis: 300 } })
    await raw(httpPort, `GET /fast HTTP/1.1\r\n${good}Connection: close\r\n\r\n`)
    const slow = raw(httpPort, `GET / HTTP/1.1\r\n${good}Connection: close\r\n\r\n`)
    await until(() => front.openRequests === 1)
    await once(tunnel.opened[0] ?? assert.fail("no connection"), "timeout")
    answer()
    assert.match(await slow, /late$/u)
    assert.lengthOf(tunnel.opened, 1)
  })
})
