/** Visitors that forge, smuggle, flood or wait, and the errors that they get. */
import { assert, describe, it } from "@effect/vitest"
import { once } from "node:events"
import type { IncomingMessage } from "node:http"
import { connect as connectTls } from "node:tls"
import {
  ask,
  closeAfterTest,
  http2Visit,
  raw,
  route,
  startFront,
  startService,
  until,
  untilClosed,
  visit
} from "./httpKit.ts"

const host = "plain.example.com"
const good = `Host: ${host}\r\n`
const end = "Connection: close\r\n\r\n"

const statusOf = (answer: string) => Number(/^HTTP\/1\.1 (\d+)/u.exec(answer)?.[1] ?? 0)

/** A service that keeps the requests that reach it, with their bodies. */
const startRecorder = async () => {
  const requests: Array<IncomingMessage> = []
  const port = await startService((request, response) => {
    requests.push(request)
    request.resume().on("end", () => response.end("ok"))
  })
  return { port, requests }
}

describe("hostile visitors", () => {
  it.each([
    ["no Host", `GET / HTTP/1.1\r\n${end}`, 400],
    ["an empty Host", `GET / HTTP/1.1\r\nHost:\r\n${end}`, 400],
    ["two Hosts", `GET / HTTP/1.1\r\n${good}${good}${end}`, 400],
    ["a Host with a path", `GET / HTTP/1.1\r\nHost: ${host}/x\r\n${end}`, 400],
    ["a Host with a user", `GET / HTTP/1.1\r\nHost: a@${host}\r\n${end}`, 400],
    ["a list of Hosts", `GET / HTTP/1.1\r\nHost: ${host}, x\r\n${end}`, 400],
    ["an unknown Host", `GET / HTTP/1.1\r\nHost: unknown.example.com\r\n${end}`, 404],
    ["an address as Host", `GET / HTTP/1.1\r\nHost: [::1]:80\r\n${end}`, 404],
    ["HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n", 400],
    [
      "a length and chunks",
      `POST / HTTP/1.1\r\n${good}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      400
    ],
    [
      "chunks and a length",
      `POST / HTTP/1.1\r\n${good}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n`,
      400
    ],
    ["two lengths", `POST / HTTP/1.1\r\n${good}Content-Length: 1\r\nContent-Length: 1\r\n\r\nx`, 400],
    ["a list of lengths", `POST / HTTP/1.1\r\n${good}Content-Length: 1, 1\r\n\r\nx`, 400],
    ["a signed length", `POST / HTTP/1.1\r\n${good}Content-Length: +1\r\n\r\nx`, 400],
    ["another coding", `POST / HTTP/1.1\r\n${good}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n`, 501],
    ["a coding without chunks", `POST / HTTP/1.1\r\n${good}Transfer-Encoding: identity\r\n\r\nx`, 501],
    [
      "a doubled coding",
      `POST / HTTP/1.1\r\n${good}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
      400
    ],
    ["a coding with a tab", `POST / HTTP/1.1\r\n${good}Transfer-Encoding:\tchunked\x0b\r\n\r\n0\r\n\r\n`, 400],
    ["chunks in HTTP/1.0", `POST / HTTP/1.0\r\n${good}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, 400],
    ["a space before the colon", `GET / HTTP/1.1\r\n${good}X-A : 1\r\n${end}`, 400],
    ["a folded field", `GET / HTTP/1.1\r\n${good}X-A: 1\r\n 2\r\n${end}`, 400],
    ["a bare LF in a field", `GET / HTTP/1.1\r\n${good}X-A: 1\nX-B: 2\r\n${end}`, 400],
    ["a NUL in a field", `GET / HTTP/1.1\r\n${good}X-A: 1\0\r\n${end}`, 400],
    ["another authority", `GET http://other.example.com/ HTTP/1.1\r\n${good}${end}`, 400],
    ["a target without a slash", `GET x HTTP/1.1\r\n${good}${end}`, 400],
    ["a fragment", `GET /#x HTTP/1.1\r\n${good}${end}`, 400],
    ["CONNECT", `CONNECT ${host}:443 HTTP/1.1\r\n${good}\r\n`, 405],
    ["TRACE", `TRACE / HTTP/1.1\r\n${good}${end}`, 405],
    ["HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400],
    ["no HTTP", "\x16\x03\x01\r\n\r\n", 400]
  ])("a request with %s never reaches a service", async (_name, bytes, status) => {
    const { port, requests } = await startRecorder()
    const { httpPort } = await startFront([route(host, port)])
    const answer = await raw(httpPort, bytes + `GET /smuggled HTTP/1.1\r\n${good}\r\n`)
    assert.strictEqual(statusOf(answer), status, answer)
    assert.match(answer, /^HTTP\/1\.1 \d+ [A-Z]/u)
    assert.strictEqual(answer.match(/HTTP\/1\.1 \d{3}/gu)?.length, 1, answer)
    assert.deepStrictEqual(requests, [])
  })

  it("a chunk with a wrong length ends both connections, and nothing after it is a request", async () => {
    const { port, requests } = await startRecorder()
    const tunnel = route(host, port)
    const { httpPort } = await startFront([tunnel])
    await raw(
      httpPort,
      `POST / HTTP/1.1\r\n${good}Transfer-Encoding: chunked\r\n\r\nZZ\r\nGET /x HTTP/1.1\r\n${good}\r\n`
    )
    assert.isTrue(requests.every(({ complete }) => !complete))
    assert.isTrue(requests.every(({ url }) => url === "/"))
    await until(() => tunnel.opened.every(({ destroyed }) => destroyed))
  })

  it("an absolute target with the authority of Host is forwarded as a path", async () => {
    const { port, requests } = await startRecorder()
    const { httpPort } = await startFront([route(host, port)])
    assert.strictEqual(statusOf(await raw(httpPort, `GET http://${host}/a?b HTTP/1.1\r\n${good}${end}`)), 200)
    assert.strictEqual(statusOf(await raw(httpPort, `OPTIONS * HTTP/1.1\r\n${good}${end}`)), 200)
    assert.deepStrictEqual(requests.map(({ url }) => url), ["/a?b", "*"])
  })

  it("a visitor cannot forge or remove the forwarding fields", async () => {
    const { port, requests } = await startRecorder()
    const { httpPort } = await startFront([route(host, port)])
    const forged = [
      "X-Forwarded-For",
      "X-FORWARDED-HOST",
      "x-forwarded-proto",
      "X_Forwarded_For",
      "X-Forwarded-Port",
      "X-Real-IP",
      "Forwarded",
      "True-Client-IP",
      "CF-Connecting-IP"
    ].map((name) => `${name}: 6.6.6.6\r\n`).join("")
    const named = "Connection: close, X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto, Host, Content-Length\r\n"
    const answer = await raw(httpPort, `POST / HTTP/1.1\r\n${good}${forged}${named}Content-Length: 1\r\n\r\nx`)
    assert.strictEqual(statusOf(answer), 200)
    const seen = requests[0] ?? assert.fail("no request")
    assert.notInclude(seen.rawHeaders, "6.6.6.6")
    const { "content-length": length, host: seenHost, "x-forwarded-for": address, "x-forwarded-host": name } =
      seen.headers
    assert.deepStrictEqual([length, seenHost, address, name], ["1", host, "127.0.0.1", host])
    assert.strictEqual(seen.headers["x-forwarded-proto"], "http")
  })

  it("the forwarding fields of a trusted proxy are kept and extended", async () => {
    const { port, requests } = await startRecorder()
    const { httpPort, log } = await startFront([route(host, port), route("app.example.com", port)], {
      trustedProxies: (address) => address === "127.0.0.1"
    })
    const headers = {
      "X-Forwarded-For": "198.51.100.1, 203.0.113.9",
      "X-Forwarded-Host": "shown.example.com",
      "X-Forwarded-Proto": "https",
      Forwarded: "for=203.0.113.9"
    }
    assert.strictEqual((await ask(httpPort, "app.example.com", { headers })).status, 200)
    const seen = requests[0]?.headers
    assert.strictEqual(seen?.["x-forwarded-for"], "198.51.100.1, 203.0.113.9, 127.0.0.1")
    assert.strictEqual(seen?.["x-forwarded-host"], "shown.example.com")
    assert.strictEqual(seen?.["x-forwarded-proto"], "https")
    assert.strictEqual(seen?.["forwarded"], "for=203.0.113.9, for=127.0.0.1;proto=http")
    await until(() => log.length === 1)
    assert.strictEqual(log[0]?.visitor, "203.0.113.9")
  })

  it("a request over TLS for a name of another certificate gets 421, and of the same certificate is served", async () => {
    const { port, requests } = await startRecorder()
    const { httpsPort } = await startFront(
      ["app.example.com", "other.example.com", "*.wild.example.com"].map((name) => route(name, port))
    )
    const statusFor = async (servername: string, authority: string) => {
      const session = await http2Visit(httpsPort, servername)
      const stream = session.request({ ":path": "/", ":authority": authority })
      const [headers] = await once(stream, "response") as [Record<string, unknown>]
      stream.resume()
      return headers[":status"]
    }
    assert.strictEqual(await statusFor("app.example.com", "other.example.com"), 421)
    assert.strictEqual(await statusFor("app.example.com", "unknown.example.com"), 421)
    assert.deepStrictEqual(requests, [])
    assert.strictEqual(await statusFor("app.example.com", "APP.example.com"), 200)
    assert.strictEqual(await statusFor("a.wild.example.com", "b.wild.example.com"), 200)
  })

  it("a name without a certificate gets a TLS alert", async () => {
    const { httpsPort } = await startFront([route(host, 1)])
    const socket = closeAfterTest(connectTls({ port: httpsPort, servername: host, rejectUnauthorized: false }))
    const [error] = await once(socket, "error") as [NodeJS.ErrnoException]
    assert.match(error.code ?? "", /ALERT/u)
  })

  it("header fields above the limits get 431", async () => {
    const { port, requests } = await startRecorder()
    const { httpPort } = await startFront([route(host, port)], { limits: { maxHeaders: 10, maxHeaderBytes: 2_000 } })
    const many = Array.from({ length: 11 }, (_, at) => `X-${at}: 1\r\n`).join("")
    assert.strictEqual(statusOf(await raw(httpPort, `GET / HTTP/1.1\r\n${good}${many}${end}`)), 431)
    assert.strictEqual(statusOf(await raw(httpPort, `GET / HTTP/1.1\r\n${good}X: ${"x".repeat(2_000)}\r\n${end}`)), 431)
    assert.deepStrictEqual(requests, [])
  })

  it("a body above the limit gets 413, whether its length is known or not", async () => {
    const { port } = await startRecorder()
    const { httpPort } = await startFront([route(host, port)], { limits: { maxBodyBytes: 3 } })
    assert.strictEqual(statusOf(await raw(httpPort, `POST / HTTP/1.1\r\n${good}Content-Length: 4\r\n\r\nabcd`)), 413)
    const chunked = `POST / HTTP/1.1\r\n${good}Transfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n`
    assert.strictEqual(statusOf(await raw(httpPort, chunked)), 413)
    assert.strictEqual(
      statusOf(
        await raw(httpPort, `POST / HTTP/1.1\r\n${good}${end.replace("\r\n\r\n", "")}\r\nContent-Length: 3\r\n\r\nabc`)
      ),
      200
    )
  })

  it("a header section that does not end gets 408 after its time-out", async () => {
    const { httpPort } = await startFront([route(host, 1)], { limits: { headersMillis: 40 } })
    assert.strictEqual(statusOf(await raw(httpPort, `GET / HTTP/1.1\r\n${good}X: `)), 408)
  })

  it("a body that stops gets 408, and frees the connection to the service", async () => {
    const { port } = await startRecorder()
    const tunnel = route(host, port)
    const { clock, front, httpPort } = await startFront([tunnel])
    const socket = await visit(httpPort)
    socket.write(`POST / HTTP/1.1\r\n${good}Content-Length: 9\r\n\r\nabc`)
    await until(() => tunnel.opened.length === 1)
    const answer = untilClosed(socket)
    clock.advance(59_000)
    assert.strictEqual(front.openRequests, 1)
    clock.advance(2_000)
    await until(() => front.openRequests === 0)
    clock.advance(2_000)
    assert.strictEqual(statusOf(await answer), 408)
    assert.isTrue(tunnel.opened[0]?.destroyed)
  })
})
