/** Requests and responses through the HTTP front, over HTTP/1.1 and HTTP/2. */
import { assert, describe, it } from "@effect/vitest"
import { createHash, randomBytes } from "node:crypto"
import { once } from "node:events"
import { createServer as createHttp, type IncomingMessage, request as httpRequest } from "node:http"
import { Readable } from "node:stream"
import { pipeline } from "node:stream/promises"
import { appTls, ask, http2Visit, listen, raw, route, startFront, startService, textOf, until } from "./httpKit.ts"
import { createServer as createHttps } from "node:https"

const host = "plain.example.com"
const secureHost = "app.example.com"

const hashOf = async (stream: Readable): Promise<string> => {
  const hash = createHash("sha256")
  for await (const chunk of stream) hash.update(chunk as Buffer)
  return hash.digest("hex")
}

describe("forwarding", () => {
  it("a service sees the visitor's fields in their order and case, and its own fields come back", async () => {
    let seen: IncomingMessage | undefined
    const port = await startService((request, response) => {
      seen = request
      response.writeHead(201, "Made", ["X-CaSe", "1", "Set-Cookie", "a=1", "Set-Cookie", "b=2", "Keep-Alive", "x"])
      response.end("done")
    })
    const { httpPort, log } = await startFront([route(host, port)])
    const answer = await ask(httpPort, host, {
      path: "/p?q=secret",
      headers: ["Host", host, "X-OnE", "1", "X-OnE", "2", "Connection", "x-hop", "X-Hop", "3"]
    })
    assert.deepStrictEqual([answer.status, answer.body], [201, "done"])
    assert.deepStrictEqual(answer.headers["set-cookie"], ["a=1", "b=2"])
    assert.include(answer.rawHeaders, "X-CaSe")
    assert.notInclude(answer.rawHeaders, "x")
    assert.strictEqual(seen?.url, "/p?q=secret")
    assert.deepStrictEqual(seen?.rawHeaders, [
      "Host",
      host,
      "X-OnE",
      "1",
      "X-OnE",
      "2",
      "X-Forwarded-For",
      "127.0.0.1",
      "X-Forwarded-Host",
      host,
      "X-Forwarded-Proto",
      "http",
      "Connection",
      "keep-alive"
    ])
    await until(() => log.length === 1)
    const { durationMillis: _duration, time: _time, ...entry } = log[0] ?? assert.fail("no entry")
    assert.deepStrictEqual(entry, {
      visitor: "127.0.0.1",
      host,
      method: "GET",
      path: "/p",
      protocol: "HTTP/1.1",
      status: 201,
      receivedBytes: 0,
      sentBytes: 4,
      tunnelId: `tunnel of ${host}`,
      referer: undefined,
      userAgent: undefined
    })
  })

  it("requests of HTTP/2 reach the service as HTTP/1.1, with joined cookies and the same forwarding fields", async () => {
    let seen: IncomingMessage | undefined
    const port = await startService((request, response) => {
      seen = request
      response.setHeader("Set-Cookie", ["a=1", "b=2"])
      response.setHeader("Connection", "close")
      request.pipe(response)
    })
    const { httpsPort } = await startFront([route(secureHost, port)])
    const session = await http2Visit(httpsPort, secureHost)
    const stream = session.request({ ":method": "POST", ":path": "/p", cookie: ["a=1", "b=2"] as never })
    stream.end("body")
    const [headers] = await once(stream, "response") as [Record<string, unknown>]
    assert.strictEqual(await textOf(stream), "body")
    assert.strictEqual(headers[":status"], 200)
    assert.deepStrictEqual(headers["set-cookie"], ["a=1", "b=2"])
    assert.strictEqual(headers["connection"], undefined)
    const { cookie, host: seenHost } = seen?.headers ?? {}
    assert.deepStrictEqual([seen?.httpVersion, seenHost, cookie], ["1.1", secureHost, "a=1; b=2"])
    assert.strictEqual(seen?.headers["x-forwarded-proto"], "https")
  })

  for (const version of ["HTTP/1.1", "HTTP/2"]) {
    it(`20 MB pass unchanged in both directions at once over ${version}`, async () => {
      const port = await startService((request, response) => request.pipe(response))
      const { httpPort, httpsPort } = await startFront([route(host, port), route(secureHost, port)])
      const block = randomBytes(65_536)
      const blocks = Array.from({ length: 320 }, () => block)
      const sent = createHash("sha256")
      for (const each of blocks) sent.update(each)
      const digest = sent.digest("hex")
      if (version === "HTTP/2") {
        const session = await http2Visit(httpsPort, secureHost)
        const stream = session.request({ ":method": "POST", ":path": "/" })
        const [, hash] = await Promise.all([pipeline(Readable.from(blocks), stream, { end: true }), hashOf(stream)])
        assert.strictEqual(hash, digest)
      } else {
        const request = httpRequest({ port: httpPort, method: "POST", headers: { Host: host }, agent: false })
        const upload = pipeline(Readable.from(blocks), request)
        const [response] = await once(request, "response") as [IncomingMessage]
        const [hash] = await Promise.all([hashOf(response), upload])
        assert.strictEqual(hash, digest)
      }
    })
  }

  it("an event of a service reaches the visitor before the service sends the next one", async () => {
    let next: (() => void) | undefined
    const port = await startService((_request, response) => {
      response.writeHead(200, { "Content-Type": "text/event-stream" }).flushHeaders()
      next = () => void response.write("data: 1\n\n")
    })
    const { httpPort, httpsPort } = await startFront([route(host, port), route(secureHost, port)])
    const request = httpRequest({ port: httpPort, headers: { Host: host }, agent: false }).end()
    const [response] = await once(request, "response") as [IncomingMessage]
    for (let count = 0; count < 3; count += 1) {
      next?.()
      const [event] = await once(response, "data") as [Buffer]
      assert.strictEqual(event.toString(), "data: 1\n\n")
    }
    request.destroy()
    const stream = (await http2Visit(httpsPort, secureHost)).request({ ":path": "/" })
    await once(stream, "response")
    for (let count = 0; count < 3; count += 1) {
      next?.()
      const [event] = await once(stream, "data") as [Buffer]
      assert.strictEqual(event.toString(), "data: 1\n\n")
    }
  })

  it("trailers pass in both directions, without those that forge the visitor's address", async () => {
    const port = await startService((request, response) => {
      request.resume().on("end", () => {
        response.writeHead(200, { Trailer: "X-Sum" })
        response.write("body")
        response.addTrailers({ "X-Sum": JSON.stringify(request.trailers) })
        response.end()
      })
    })
    const { httpPort, httpsPort } = await startFront([route(host, port), route(secureHost, port)])
    const request = httpRequest({
      port: httpPort,
      method: "POST",
      headers: { Host: host, Trailer: "X-A", TE: "trailers" },
      agent: false
    })
    request.write("1")
    request.addTrailers({ "X-A": "1", "X-Forwarded-For": "6.6.6.6" })
    request.end()
    const [response] = await once(request, "response") as [IncomingMessage]
    await textOf(response)
    assert.strictEqual(response.trailers["x-sum"], `{"x-a":"1"}`)
    const stream = (await http2Visit(httpsPort, secureHost)).request({ ":method": "POST", ":path": "/" }, {
      waitForTrailers: true
    })
    stream.on("wantTrailers", () => stream.sendTrailers({ "x-a": "2", "x-real-ip": "6.6.6.6" }))
    const trailers = once(stream, "trailers")
    stream.end("1")
    stream.resume()
    assert.strictEqual((await trailers as [Record<string, string>])[0]["x-sum"], `{"x-a":"2"}`)
  })

  it("103 and 100 reach the visitor only when the service sends them", async () => {
    const server = createHttp()
    const servicePort = await listen(server)
    server.on("checkContinue", (request, response) => {
      if (request.url === "/no") return response.writeHead(417).end()
      response.writeEarlyHints({ link: "</a.css>; rel=preload" })
      response.writeContinue()
      request.pipe(response)
    })
    const { httpPort, httpsPort } = await startFront([route(host, servicePort), route(secureHost, servicePort)])
    const head = `Host: ${host}\r\nExpect: 100-continue\r\nContent-Length: 2\r\n`
    const refused = await raw(httpPort, `POST /no HTTP/1.1\r\n${head}\r\n`)
    assert.match(refused, /^HTTP\/1\.1 417 [^]*connection: close/iu)
    assert.notInclude(refused, " 100 ")
    const accepted = await raw(httpPort, `POST / HTTP/1.1\r\n${head}Connection: close\r\n\r\nhi`)
    assert.match(accepted, /^HTTP\/1\.1 103 .*\r\nLink: <\/a\.css>.*\r\n\r\nHTTP\/1\.1 100 [^]*HTTP\/1\.1 200 /iu)
    const stream = (await http2Visit(httpsPort, secureHost)).request({
      ":method": "POST",
      ":path": "/",
      expect: "100-continue"
    })
    const statuses: Array<unknown> = []
    stream.on("headers", (headers) => statuses.push(headers[":status"])).on("continue", () => stream.end("hi"))
    assert.strictEqual(await textOf(stream), "hi")
    assert.deepStrictEqual(statuses, [103, 100])
  })

  it("HEAD, 204 and 304 have no body, and the connection serves the next request", async () => {
    const port = await startService((request, response) => {
      response.writeHead(Number(request.url?.slice(1)), {
        ETag: "x",
        ...(request.method === "HEAD" ? { "Content-Length": 9 } : {})
      })
      response.end()
    })
    const { httpPort, httpsPort } = await startFront([route(host, port), route(secureHost, port)])
    const text = await raw(
      httpPort,
      `HEAD /200 HTTP/1.1\r\nHost: ${host}\r\n\r\nGET /204 HTTP/1.1\r\nHost: ${host}\r\n\r\n` +
        `GET /304 HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`
    )
    assert.deepStrictEqual(text.match(/HTTP\/1\.1 \d+/gu), ["HTTP/1.1 200", "HTTP/1.1 204", "HTTP/1.1 304"])
    assert.match(text, /Content-Length: 9/iu)
    const session = await http2Visit(httpsPort, secureHost)
    for (const [method, path] of [["HEAD", "/200"], ["GET", "/204"], ["GET", "/304"]]) {
      const stream = session.request({ ":method": method, ":path": path })
      const [headers] = await once(stream, "response") as [Record<string, unknown>]
      assert.strictEqual(await textOf(stream), "")
      assert.strictEqual(headers[":status"], Number(path?.slice(1)))
    }
  })

  it("a service with TLS is asked by the public name, and its certificate is verified", async () => {
    const servernames: Array<unknown> = []
    const port = await listen(createHttps(appTls, (request, response) => {
      servernames.push((request.socket as unknown as { servername: string }).servername)
      response.end("secure")
    }))
    const insecure = route(host, port, { scheme: "https", tls: "insecure" })
    const verified = route("v.example.com", port, { scheme: "https", tls: "verify" })
    const { httpPort } = await startFront([insecure, verified])
    assert.strictEqual((await ask(httpPort, host)).body, "secure")
    assert.deepStrictEqual(servernames, [host])
    const answer = await ask(httpPort, "v.example.com")
    assert.strictEqual(answer.status, 502)
    assert.include(answer.body, "certificate")
    assert.deepStrictEqual(verified.outcomes, ["target-unreachable"])
    assert.deepStrictEqual(servernames, [host])
  })
})
