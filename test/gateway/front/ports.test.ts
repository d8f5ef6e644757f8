/** Public ports of tunnels and of HTTP: opening, closing, ports in use, limits, and the end of the listeners. */
import { ListenError, listenRemedy } from "#gateway/front/listen.ts"
import { visitorOf } from "#gateway/front/visitors.ts"
import { assert, describe, it } from "@effect/vitest"
import { encodeHeader } from "#proxyProtocol/encodeHeader.ts"
import { freePort } from "#support/freePort.ts"
import { once } from "node:events"
import { createServer, type Socket } from "node:net"
import {
  ending,
  endingOf,
  listen,
  readAll,
  readBytes,
  route,
  startFront,
  startService,
  until,
  visit
} from "./frontKit.ts"

const startEcho = () => startService((socket) => void socket.pipe(socket))

const echo = async (visitor: Socket, text: string) => {
  visitor.write(text)
  return String(await readBytes(visitor, text.length))
}

const refusal = async (port: number) => visit(port).then(() => "open", (error: NodeJS.ErrnoException) => error.code)

describe("public ports of tunnels", () => {
  it("ports open and close with their tunnels, and connections of other tunnels continue", async () => {
    const port = await startEcho()
    const [first, second] = [
      route({ tunnelId: "t1", port, listenPort: await freePort() }),
      route({ tunnelId: "t2", port, listenPort: await freePort() })
    ]
    const { listeners } = await startFront()
    await listeners.setPortRoutes([first, second])
    const [one, two] = [await visit(first.listenPort ?? 0), await visit(second.listenPort ?? 0)]
    assert.deepStrictEqual([await echo(one, "1"), await echo(two, "2")], ["1", "2"])
    await listeners.setPortRoutes([second])
    assert.strictEqual(await refusal(first.listenPort ?? 0), "ECONNREFUSED")
    assert.deepStrictEqual([await echo(one, "still open"), await echo(two, "2")], ["still open", "2"])
    listeners.retire(first, 0)
    assert.strictEqual(listeners.counts.openPorts, 1)
  })

  it("a changed tunnel gets new connections on the open port, and its old connections end after the drain time", async () => {
    const listenPort = await freePort()
    const before = route({ port: await startEcho(), listenPort })
    const after = route({ port: await startService((socket) => void socket.end("new")), listenPort })
    const { clock, listeners } = await startFront()
    await listeners.setPortRoutes([before])
    const old = await visit(listenPort)
    assert.strictEqual(await echo(old, "a"), "a")
    await listeners.setPortRoutes([after])
    listeners.retire(before, 30_000)
    assert.strictEqual(String(await readAll(await visit(listenPort))), "new")
    clock.advance(29_999)
    assert.strictEqual(await echo(old, "b"), "b")
    clock.advance(1)
    assert.strictEqual(await ending(old), "ECONNRESET")
  })

  it("a port in use is reported, other ports open, and the port opens after it has become free", async () => {
    const other = createServer()
    const listenPort = await listen(other)
    const busy = route({ tunnelId: "busy", port: await startEcho(), listenPort })
    const free = route({ tunnelId: "free", port: busy.port, listenPort: await freePort() })
    const { clock, listeners, portProblems } = await startFront()
    const problems = await listeners.setPortRoutes([busy, free])
    assert.deepStrictEqual(
      problems,
      new Map([["busy", `cannot listen on 127.0.0.1:${listenPort}: another program uses the port`]])
    )
    assert.strictEqual(await echo(await visit(free.listenPort ?? 0), "free"), "free")
    for (let times = 0; times < 2; times += 1) {
      clock.advance(5_000)
      // Timers of addresses, of the next attempt, and of the open pipe.
      await until(() => clock.timers === 3)
    }
    assert.deepStrictEqual(portProblems, [], "an unchanged problem is not reported again")
    other.close()
    await once(other, "close")
    clock.advance(5_000)
    await until(() => portProblems.length === 1)
    assert.deepStrictEqual(portProblems, [new Map()])
    assert.strictEqual(await echo(await visit(listenPort), "busy"), "busy")
  })

  it("a port that is removed while it is in use is not tried again", async () => {
    const other = createServer()
    const listenPort = await listen(other)
    const { clock, listeners } = await startFront()
    await listeners.setPortRoutes([route({ listenPort })])
    assert.deepStrictEqual(await listeners.setPortRoutes([]), new Map())
    other.close()
    await once(other, "close")
    clock.advance(60_000)
    assert.strictEqual(await refusal(listenPort), "ECONNREFUSED")
  })

  it("the last of several calls at once decides", async () => {
    const port = await startEcho()
    const routes = await Promise.all(
      [1, 2, 3].map(async (n) => route({ tunnelId: `t${n}`, port, listenPort: await freePort() }))
    )
    const { listeners } = await startFront()
    await Promise.all([
      listeners.setPortRoutes(routes),
      listeners.setPortRoutes([]),
      listeners.setPortRoutes(routes.slice(2))
    ])
    assert.strictEqual(listeners.counts.openPorts, 1)
    assert.strictEqual(await echo(await visit(routes[2]?.listenPort ?? 0), "x"), "x")
  })

  it("two tunnels cannot have one port", async () => {
    const listenPort = await freePort()
    const { listeners } = await startFront()
    const problems = await listeners.setPortRoutes([
      route({ tunnelId: "t1", listenPort }),
      route({ tunnelId: "t2", listenPort }),
      route({ tunnelId: "t3", listenPort, protocol: "udp" })
    ])
    assert.deepStrictEqual(problems, new Map([["t2", `port ${listenPort} belongs to tunnel t1`]]))
  })

  it("the front's own HTTP port is in use for tunnels", async () => {
    const { listeners } = await startFront()
    const problems = await listeners.setPortRoutes([route({ listenPort: listeners.httpPort })])
    assert.match(problems.get("t1") ?? "", /another program uses the port/u)
  })
})

describe("start of the listeners", () => {
  it("a port in use is an error with address, port and remedy, and no other port stays open", async () => {
    const [httpPort, httpsPort] = [await freePort(), await listen(createServer())]
    const error = await startFront({ httpPort, httpsPort }).then(() => undefined, (reason: Error) => reason)
    assert.strictEqual(
      error?.message,
      `cannot listen on 127.0.0.1:${httpsPort}: another program uses the port; stop that program, or choose another port with --https-port`
    )
    assert.strictEqual(await refusal(httpPort), "ECONNREFUSED")
  })

  it("a port without permission is an error with two remedies", () => {
    const error = new ListenError("::", 80, { name: "", message: "", code: "EACCES" })
    assert.strictEqual(error.message, "cannot listen on [::]:80: permission denied")
    assert.match(listenRemedy(error, "--http-port"), /above 1023 with --http-port.*ip_unprivileged_port_start=80/u)
  })

  it("an address of another machine is an error that names --bind", async () => {
    const error = await startFront({ bind: ["192.0.2.1"] }).then(() => undefined, (reason: Error) => reason)
    assert.match(error?.message ?? "", /192\.0\.2\.1:0: no interface of this machine has the address; .*--bind/u)
  })

  it("IPv4 and IPv6 have the same port", async () => {
    const { listeners } = await startFront({ bind: ["0.0.0.0", "::"] })
    const socket = await visit(listeners.httpPort)
    assert.strictEqual(await ending(socket), "end")
  })
})

describe("HTTP port", () => {
  it("a connection reaches the HTTP front with its visitor, also behind a trusted proxy", async () => {
    const serveHttp = (socket: Socket) => {
      const { source } = visitorOf(socket) ?? {}
      socket.once("data", (bytes) => socket.end(`${source?.address} ${String(bytes)}`))
    }
    const { listeners } = await startFront({
      httpFront: { serveHttp, serveTls: (socket) => socket.destroy() },
      proxyProtocolIn: true,
      trustedProxies: (address) => address === "127.0.0.2"
    })
    const direct = await visit(listeners.httpPort)
    direct.write("GET")
    assert.strictEqual(String(await readAll(direct)), "127.0.0.1 GET")
    const proxied = await visit(listeners.httpPort, { localAddress: "127.0.0.2" })
    const ends = { source: { address: "2001:db8::7", port: 1 }, destination: { address: "2001:db8::1", port: 80 } }
    proxied.write(Buffer.concat([encodeHeader("v2", ends), Buffer.from("GET")]))
    assert.strictEqual(String(await readAll(proxied)), "2001:db8::7 GET")
  })
})

describe("limits of connections", () => {
  const startLimited = async (limits: Parameters<typeof startFront>[0]) => {
    const port = await startEcho()
    const routes = await Promise.all(
      ["t1", "t2"].map(async (tunnelId) => route({ tunnelId, port, listenPort: await freePort() }))
    )
    const front = await startFront(limits)
    await front.listeners.setPortRoutes(routes)
    const [first = 0, second = 0] = routes.map(({ listenPort }) => listenPort ?? 0)
    return { ...front, first, second }
  }

  it("a visitor with too many connections is reset, others are served, and an end makes room", async () => {
    const { first, listeners } = await startLimited({ limits: { maxConnectionsPerVisitor: 2 } })
    const open = [await visit(first), await visit(first)]
    for (const visitor of open) assert.strictEqual(await echo(visitor, "x"), "x")
    assert.strictEqual(await endingOf(first), "ECONNRESET")
    assert.strictEqual(await echo(await visit(first, { localAddress: "127.0.0.2" }), "x"), "x")
    open[0]?.destroy()
    await until(() => listeners.counts.openConnections === 2)
    assert.strictEqual(await echo(await visit(first), "x"), "x")
    assert.deepStrictEqual(listeners.counts.refusedConnections, { total: 0, visitor: 1, tunnel: 0 })
  })

  it("a trusted proxy may open more connections than a visitor", async () => {
    const { first } = await startLimited({ limits: { maxConnectionsPerVisitor: 1 }, trustedProxies: () => true })
    for (const visitor of [await visit(first), await visit(first)]) assert.strictEqual(await echo(visitor, "x"), "x")
  })

  it("a tunnel with too many connections refuses more, and other tunnels do not", async () => {
    const { first, listeners, second } = await startLimited({ limits: { maxConnectionsPerTunnel: 1 } })
    const open = await visit(first)
    assert.strictEqual(await echo(open, "x"), "x")
    assert.strictEqual(await endingOf(first), "ECONNRESET")
    assert.strictEqual(await echo(await visit(second), "x"), "x")
    assert.deepStrictEqual(listeners.counts.refusedConnections, { total: 0, visitor: 0, tunnel: 1 })
    open.destroy()
    await until(() => listeners.counts.openPipes === 1)
    assert.strictEqual(await echo(await visit(first), "x"), "x")
  })

  it("all ports together have a limit", async () => {
    const { first, listeners, second } = await startLimited({ limits: { maxConnections: 2 } })
    for (const port of [first, second]) assert.strictEqual(await echo(await visit(port), "x"), "x")
    assert.strictEqual(await endingOf(listeners.httpsPort), "ECONNRESET")
    assert.deepStrictEqual(listeners.counts.refusedConnections, { total: 1, visitor: 0, tunnel: 0 })
  })
})

describe("close of the listeners", () => {
  it("connections may end within the drain time, and are reset after it", async () => {
    const listenPort = await freePort()
    const { clock, listeners } = await startFront()
    await listeners.setPortRoutes([route({ port: await startEcho(), listenPort })])
    const [ends, stays] = [await visit(listenPort), await visit(listenPort)]
    for (const visitor of [ends, stays]) assert.strictEqual(await echo(visitor, "x"), "x")
    const hello = ending(await visit(listeners.httpsPort))
    await until(() => listeners.counts.openConnections === 3)
    let isClosed = false
    const closed = listeners.close(30_000).then(() => (isClosed = true))
    for (const port of [listenPort, listeners.httpPort]) assert.strictEqual(await refusal(port), "ECONNREFUSED")
    assert.strictEqual(await hello, "end")
    assert.strictEqual(await echo(ends, "still open"), "still open")
    ends.end()
    await readAll(ends)
    clock.advance(29_999)
    assert.isFalse(isClosed)
    clock.advance(1)
    assert.strictEqual(await ending(stays), "ECONNRESET")
    await closed
    assert.strictEqual(clock.timers, 0)
  })
})
