/** Services that fail, close, hang or move, and visitors that leave. */
import { assert, describe, it } from "@effect/vitest"
import { once } from "node:events"
import { type IncomingMessage, request as httpRequest } from "node:http"
import { type AddressInfo, createServer, type Socket } from "node:net"
import {
  ask,
  closeAfterTest,
  http2Visit,
  listen,
  raw,
  route,
  startFront,
  startService,
  textOf,
  until,
  visit
} from "./httpKit.ts"
import type { TunnelSocket } from "#wireguard/Device.ts"
import { Duplex } from "node:stream"

const host = "plain.example.com"
const secureHost = "app.example.com"

/** A socket that fails as one of a tunnel to an agent that does not answer. */
const timedOut = (): TunnelSocket => {
  const socket = new Duplex({ read: () => {}, write: () => {} })
  Object.assign(socket, { setNoDelay: () => socket, setKeepAlive: () => socket, setTimeout: () => socket })
  setImmediate(() => socket.destroy(Object.assign(new Error("10.64.0.2 does not answer"), { code: "ETIMEDOUT" })))
  return socket as unknown as TunnelSocket
}

/** A TCP service that handles the n-th request of all connections by itself. */
const startRaw = (onRequest: (socket: Socket, count: number) => void): Promise<number> => {
  let count = 0
  return listen(createServer((socket) => {
    closeAfterTest(socket).on("data", () => onRequest(socket, count++))
  }))
}

const closedPort = async (): Promise<number> => {
  const server = createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, "close")
  return port
}

describe("services", () => {
  it("a target that rejects connections gets 503 with Retry-After, in the type that the visitor accepts", async () => {
    const tunnel = route(host, await closedPort())
    const { httpPort } = await startFront([tunnel])
    const html = await ask(httpPort, host, { headers: { Accept: "text/html,*/*" } })
    assert.deepStrictEqual([html.status, html.headers["retry-after"], html.headers["cache-control"]], [
      503,
      "1",
      "no-store"
    ])
    assert.match(html.headers["content-type"] ?? "", /^text\/html/u)
    assert.include(html.body, "The agent of this tunnel cannot reach the service.")
    const json = await ask(httpPort, host, { headers: { Accept: "application/json" } })
    assert.strictEqual(JSON.parse(json.body).status, 503)
    assert.match((await ask(httpPort, host)).headers["content-type"] ?? "", /^text\/plain/u)
    assert.notMatch(html.body + json.body, /127\.0|10\.64|at /u)
    assert.deepStrictEqual(tunnel.outcomes, Array(3).fill("target-unreachable"))
  })

  it("an agent that does not answer gets 502 without an inner address", async () => {
    const tunnel = route(host, 1, { connect: timedOut })
    const { httpPort } = await startFront([tunnel])
    const { body, status } = await ask(httpPort, host)
    assert.strictEqual(status, 502)
    assert.include(body, "cannot reach the agent")
    assert.notInclude(body, "10.64")
    assert.deepStrictEqual(tunnel.outcomes, ["agent-unreachable"])
  })

  it.each([
    ["sends no HTTP", (socket: Socket) => void socket.end("garbage\r\n\r\n"), 502],
    ["closes without an answer", (socket: Socket) => void socket.end(), 502],
    ["resets the connection", (socket: Socket) => void socket.resetAndDestroy(), 503],
    [
      "answers with length and chunks",
      (socket: Socket) =>
        void socket.end("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
      502
    ],
    [
      "changes the protocol unasked",
      (socket: Socket) => void socket.write("HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"),
      502
    ]
  ])("a service that %s is answered for", async (_name, onRequest, status) => {
    const { front, httpPort } = await startFront([route(host, await startRaw(onRequest))])
    assert.strictEqual((await ask(httpPort, host)).status, status)
    await until(() => front.openRequests === 0)
  })

  it("a service that does not answer gets 504 after the time-out", async () => {
    const tunnel = route(host, await startRaw(() => {}))
    const { clock, front, httpPort } = await startFront([tunnel])
    const answer = ask(httpPort, host)
    await until(() => tunnel.opened.length === 1)
    clock.advance(119_000)
    assert.strictEqual(front.openRequests, 1)
    clock.advance(2_000)
    assert.strictEqual((await answer).status, 504)
    await until(() => tunnel.opened[0]?.destroyed === true)
  })

  it("connections to a service are kept, and a request on one that has just closed is sent again", async () => {
    const answerOk = (socket: Socket) => void socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    const port = await startRaw((socket, count) => count === 2 ? void socket.resetAndDestroy() : answerOk(socket))
    const tunnel = route(host, port)
    const { httpPort } = await startFront([tunnel])
    for (let count = 0; count < 2; count += 1) assert.strictEqual((await ask(httpPort, host)).body, "ok")
    assert.strictEqual(tunnel.opened.length, 1)
    assert.strictEqual((await ask(httpPort, host)).body, "ok")
    assert.strictEqual(tunnel.opened.length, 2)
  })

  it.each([["with", "x"], ["without", undefined]])("a POST %s a body is never sent twice", async (_name, body) => {
    let received = 0
    const port = await startRaw((socket, count) => {
      received += 1
      if (count === 0) socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
      else socket.resetAndDestroy()
    })
    const tunnel = route(host, port)
    const { httpPort } = await startFront([tunnel])
    assert.strictEqual((await ask(httpPort, host)).status, 200)
    assert.strictEqual(
      (await ask(httpPort, host, { method: "POST", ...(body === undefined ? {} : { body }) })).status,
      502
    )
    assert.deepStrictEqual([received, tunnel.opened.length], [2, 1])
  })

  it("a visitor that leaves ends the request at the service at once, over both versions", async () => {
    const closed: Array<string> = []
    const open: Array<string> = []
    const port = await startService((request, response) => {
      open.push(request.url ?? "")
      response.on("close", () => closed.push(request.url ?? ""))
    })
    const { front, httpPort, httpsPort, log } = await startFront([route(host, port), route(secureHost, port)])
    const first = httpRequest({ port: httpPort, path: "/1", headers: { Host: host }, agent: false })
    first.on("error", () => {}).end()
    const second = (await http2Visit(httpsPort, secureHost)).request({ ":path": "/2" })
    second.on("error", () => {})
    await until(() => open.length === 2)
    first.destroy()
    second.close(8)
    await until(() => closed.length === 2 && front.openRequests === 0)
    assert.deepStrictEqual(log.map(({ status }) => status), [499, 499])
  })

  it("a service that fails in its response ends the visitor's response as incomplete, over both versions", async () => {
    const port = await startRaw((socket, count) => {
      if (count > 1) return void socket.end("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
      socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
      socket.end()
    })
    const { httpPort, httpsPort } = await startFront([route(host, port), route(secureHost, port)])
    const answer = await raw(httpPort, `GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`)
    assert.match(answer, /abc\r\n$/u)
    for (let count = 0; count < 2; count += 1) {
      const stream = (await http2Visit(httpsPort, secureHost)).request({ ":path": "/" })
      let isEnded = false
      stream.resume().on("end", () => void (isEnded = true))
      await once(stream, "error")
      assert.deepStrictEqual([stream.rstCode, isEnded], [2, false])
    }
  })

  it("a slow visitor stops the service, and gets all bytes when it reads on", async () => {
    let sent = 0
    const block = Buffer.alloc(65_536)
    const port = await startService((_request, response) => {
      const send = () => {
        while (sent < 20_000_000 && response.write(block)) sent += block.length
        if (sent < 20_000_000)
          response.once("drain", () => {
            sent += block.length
            send()
          })
        else response.end()
      }
      send()
    })
    const { httpPort } = await startFront([route(host, port)])
    const request = httpRequest({ port: httpPort, headers: { Host: host }, agent: false }).end()
    const [response] = await once(request, "response") as [IncomingMessage]
    let before = -1
    // The service stops when all buffers on the way are full.
    while (sent !== before) {
      before = sent
      for (let turn = 0; turn < 200; turn += 1) await new Promise((resolve) => setImmediate(resolve))
    }
    assert.isBelow(sent, 20_000_000)
    assert.isAtLeast((await textOf(response)).length, 20_000_000)
  })

  it("port 80 redirects names with a certificate, after ACME challenges", async () => {
    const port = await startService((_request, response) => response.end("plain"))
    const routes = [route(host, port), route(secureHost, port)]
    const acme = (name: string, path: string) => path.endsWith("/token") ? `answer for ${name}` : undefined
    const { httpPort } = await startFront(routes, { acme })
    const redirected = await ask(httpPort, `${secureHost}:8080`, { method: "POST", path: "/a?b=c" })
    assert.deepStrictEqual([redirected.status, redirected.headers.location], [308, `https://${secureHost}/a?b=c`])
    assert.strictEqual((await ask(httpPort, host)).body, "plain")
    const challenge = "/.well-known/acme-challenge/token"
    assert.strictEqual((await ask(httpPort, secureHost, { path: challenge })).body, `answer for ${secureHost}`)
    const other = await startFront(routes, { publicHttpsPort: 8443 })
    assert.strictEqual((await ask(other.httpPort, secureHost)).headers.location, `https://${secureHost}:8443/`)
  })

  it("a retired route closes its idle connections, lets requests end, and cuts them after the drain time", async () => {
    const answers: Array<() => void> = []
    const port = await startService((request, response) => {
      if (request.url === "/fast") response.end("ok")
      else answers.push(() => response.end("slow"))
    })
    const tunnel = route(host, port)
    const other = route("b.example.com", port)
    const { clock, front, httpPort } = await startFront([tunnel, other])
    await Promise.all([ask(httpPort, host, { path: "/fast" }), ask(httpPort, "b.example.com", { path: "/fast" })])
    const slow = [ask(httpPort, host), ask(httpPort, host).catch(() => undefined)]
    await until(() => answers.length === 2)
    await ask(httpPort, host, { path: "/fast" })
    front.retire(tunnel, 30_000)
    await until(() => tunnel.opened.filter(({ destroyed }) => !destroyed).length === 2)
    assert.isTrue(other.opened.every(({ destroyed }) => !destroyed))
    answers[0]?.()
    await until(() => front.openRequests === 1)
    clock.advance(30_000)
    await until(() => front.openRequests === 0 && tunnel.opened.every(({ destroyed }) => destroyed))
    const statuses = (await Promise.all(slow)).map((answer) => answer?.status)
    assert.sameMembers(statuses, [200, 504])
    assert.isTrue(other.opened.every(({ destroyed }) => !destroyed))
  })

  it("close lets a request end, and closes idle connections of visitors", async () => {
    let answer: (() => void) | undefined
    const port = await startService((_request, response) => void (answer = () => void response.end("last")))
    const { front, httpPort } = await startFront([route(host, port)])
    const idle = await visit(httpPort)
    const asked = ask(httpPort, host)
    await until(() => answer !== undefined)
    const closed = front.close(30_000)
    answer?.()
    assert.strictEqual((await asked).body, "last")
    await closed
    await once(idle, "close")
  })

  it("requests above the limit of a tunnel get 503 without waiting", async () => {
    const port = await startService(() => {})
    const { front, httpPort } = await startFront([route(host, port)], { limits: { maxRequestsPerTunnel: 1 } })
    ask(httpPort, host).catch(() => {})
    await until(() => front.openRequests === 1)
    assert.strictEqual((await ask(httpPort, host)).status, 503)
  })
})
