/** Pipes of tcp tunnels: half-close, backpressure, aborts, idle time, reports and PROXY headers. */
import type { Route } from "#gateway/Route.ts"
import { assert, describe, it } from "@effect/vitest"
import type { TunnelSocket } from "#wireguard/Device.ts"
import { encodeHeader } from "#proxyProtocol/encodeHeader.ts"
import { connectionErrors } from "./connectionErrors.ts"
import { createHash, randomBytes } from "node:crypto"
import { once } from "node:events"
import type { Socket } from "node:net"
import { Duplex } from "node:stream"
import { freePort } from "#support/freePort.ts"
import {
  ending,
  endingOf,
  type FrontChanges,
  readAll,
  readBytes,
  route,
  startFront,
  startService,
  until,
  visit
} from "./frontKit.ts"

/** A front with one tcp tunnel on a free port. */
const startTcp = async (changes: Partial<Route>, options: FrontChanges = {}) => {
  const tunnel = route({ listenPort: await freePort(), ...changes })
  const front = await startFront(options)
  assert.deepStrictEqual(await front.listeners.setPortRoutes([tunnel]), new Map())
  return { ...front, tunnel, port: tunnel.listenPort ?? 0 }
}

/** The next connection of a service, and its port. */
const serviceConnection = async () => {
  const { promise, resolve } = Promise.withResolvers<Socket>()
  return { port: await startService(resolve), connection: promise }
}

/** A connection that has been established through the tunnel. */
const startPair = async (options: FrontChanges = {}) => {
  const service = await serviceConnection()
  const front = await startTcp({ port: service.port }, options)
  const visitor = await visit(front.port)
  return { ...front, visitor, service: await service.connection }
}

describe("tcp tunnel", () => {
  it("a visitor that ends its output still receives the answer of the service", async () => {
    const { clock, listeners, service, visitor } = await startPair()
    visitor.end("question")
    assert.strictEqual(String(await readAll(service)), "question")
    service.end("answer")
    assert.strictEqual(String(await readAll(visitor)), "answer")
    await until(() => listeners.counts.openPipes === 0)
    assert.deepStrictEqual(listeners.counts.pipedBytes, { fromVisitors: 8, toVisitors: 6 })
    assert.strictEqual(clock.timers, 1, "only the timer of addresses is left")
  })

  it("a service that ends its output still receives what the visitor sends", async () => {
    const { listeners, service, visitor } = await startPair()
    service.end("greeting")
    await once(visitor.resume(), "end")
    visitor.write("first")
    assert.strictEqual(String(await readBytes(service, 5)), "first")
    visitor.end("last")
    assert.strictEqual(String(await readAll(service)), "last")
    await until(() => listeners.counts.openPipes === 0)
  })

  it("20 MB arrive unchanged in both directions at once", async () => {
    const [question, answer] = [randomBytes(20_000_000), randomBytes(20_000_000)]
    const { service, visitor } = await startPair()
    visitor.end(question)
    service.end(answer)
    const hash = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex")
    const [received, returned] = await Promise.all([readAll(service), readAll(visitor)])
    assert.strictEqual(hash(received), hash(question))
    assert.strictEqual(hash(returned), hash(answer))
  })

  it("a service that does not read stops the visitor, and everything arrives when it reads again", async () => {
    const slow = new StalledSocket()
    const { listeners, port } = await startTcp({ connect: () => slow.connect() })
    const visitor = await visit(port)
    const bytes = randomBytes(20_000_000)
    visitor.end(bytes)
    await until(() => slow.writableNeedDrain)
    for (let turn = 0; turn < 200; turn += 1) await new Promise((resolve) => setImmediate(resolve))
    assert.isBelow(listeners.counts.pipedBytes.fromVisitors, 1_000_000)
    slow.release()
    await once(slow, "finish")
    assert.isTrue(Buffer.concat(slow.received).equals(bytes))
  })

  it("a reset on one side resets the other side", async () => {
    const first = await startPair()
    first.visitor.resetAndDestroy()
    assert.strictEqual(await ending(first.service), "ECONNRESET")
    const second = await startPair()
    second.service.resetAndDestroy()
    assert.strictEqual(await ending(second.visitor), "ECONNRESET")
    await until(() => first.listeners.counts.openConnections + second.listeners.counts.openConnections === 0)
  })

  it("a visitor that leaves during the connect abandons the connection to the service", async () => {
    const pending = new Duplex({ read: () => {} })
    const tunnelSocket = Object.assign(pending, { connecting: true }) as unknown as TunnelSocket
    const { listeners, port, tunnel } = await startTcp({ connect: () => tunnelSocket })
    const visitor = await visit(port)
    await until(() => listeners.counts.openPipes === 1)
    visitor.resetAndDestroy()
    await until(() => listeners.counts.openPipes === 0)
    assert.isTrue(pending.destroyed)
    assert.deepStrictEqual(tunnel.outcomes, [])
  })

  it("connections without a byte in either direction are reset after the idle time", async () => {
    const { clock, listeners, service, visitor } = await startPair({ limits: { idleMillis: 60_000 } })
    for (let round = 0; round < 2; round += 1) {
      clock.advance(59_000)
      visitor.write("a")
      await readBytes(service, 1)
      clock.advance(59_000)
      service.write("b")
      await readBytes(visitor, 1)
    }
    clock.advance(59_000)
    assert.strictEqual(listeners.counts.openPipes, 1)
    clock.advance(1_000)
    assert.deepStrictEqual(await Promise.all([ending(visitor), ending(service)]), ["ECONNRESET", "ECONNRESET"])
    await until(() => listeners.counts.openPipes === 0)
    assert.strictEqual(clock.timers, 1, "only the timer of addresses is left")
  })
})

describe("report about the service of a tcp tunnel", () => {
  it("the first byte of the service is reported as ok, once", async () => {
    const { service, tunnel, visitor } = await startPair()
    assert.deepStrictEqual(tunnel.outcomes, [])
    for (const text of ["a", "b"]) {
      service.write(text)
      await readBytes(visitor, 1)
    }
    assert.deepStrictEqual(tunnel.outcomes, ["ok"])
  })

  it("a service that ends without a byte has accepted the connection", async () => {
    const { service, tunnel, visitor } = await startPair()
    service.end()
    assert.strictEqual(await ending(visitor), "end")
    assert.deepStrictEqual(tunnel.outcomes, ["ok"])
  })

  it("a service that is silent for 1 s has accepted the connection", async () => {
    const { clock, tunnel } = await startPair()
    await until(() => clock.timers === 3)
    clock.advance(999)
    assert.deepStrictEqual(tunnel.outcomes, [])
    clock.advance(1)
    assert.deepStrictEqual(tunnel.outcomes, ["ok"])
  })

  it("a reset before the first byte is an unreachable target, and a later one is not", async () => {
    const first = await startPair()
    first.service.resetAndDestroy()
    await ending(first.visitor)
    assert.deepStrictEqual(first.tunnel.outcomes, ["target-unreachable"])
    const second = await startPair()
    second.service.write("a")
    await readBytes(second.visitor, 1)
    second.service.resetAndDestroy()
    await ending(second.visitor)
    assert.deepStrictEqual(second.tunnel.outcomes, ["ok"])
  })

  it.each([
    ["ECONNREFUSED", "target-unreachable"],
    ["ETIMEDOUT", "agent-unreachable"],
    ["EHOSTUNREACH", "agent-unreachable"]
  ])("a connect that fails with %s resets the visitor and is reported as %s", async (code, outcome) => {
    const { listeners, port, tunnel } = await startTcp({ connect: () => connectionErrors(code) })
    assert.strictEqual(await endingOf(port), "ECONNRESET")
    assert.deepStrictEqual(tunnel.outcomes, [outcome])
    await until(() => listeners.counts.openConnections === 0)
  })
})

describe("PROXY header of a tcp tunnel", () => {
  it.each(["v1", "v2"] as const)("version %s precedes the first byte of the visitor", async (proxyProtocol) => {
    const service = await serviceConnection()
    const { port } = await startTcp({ port: service.port, proxyProtocol })
    const visitor = await visit(port)
    visitor.end("hello")
    const header = encodeHeader(proxyProtocol, {
      source: { address: "127.0.0.1", port: visitor.localPort ?? 0 },
      destination: { address: "127.0.0.1", port }
    })
    assert.deepStrictEqual(await readAll(await service.connection), Buffer.concat([header, Buffer.from("hello")]))
  })

  it("a service that speaks first gets the header before any byte of the visitor", async () => {
    const service = await serviceConnection()
    const { port } = await startTcp({ port: service.port, proxyProtocol: "v1" })
    const visitor = await visit(port)
    const connection = await service.connection
    assert.match(String((await once(connection, "data"))[0]), /^PROXY TCP4 127\.0\.0\.1 127\.0\.0\.1 \d+ \d+\r\n$/u)
    connection.write("220 ready")
    assert.strictEqual(String(await readBytes(visitor, 9)), "220 ready")
  })

  const ends = { source: { address: "203.0.113.7", port: 5_000 }, destination: { address: "198.51.100.2", port: 25 } }
  const behindProxy: FrontChanges = { proxyProtocolIn: true, trustedProxies: (address) => address === "127.0.0.2" }

  it.each(["v1", "v2"] as const)(
    "a header %s of a trusted proxy names the visitor for the service",
    async (version) => {
      const service = await serviceConnection()
      const { port } = await startTcp({ port: service.port, proxyProtocol: "v2" }, behindProxy)
      const visitor = await visit(port, { localAddress: "127.0.0.2" })
      for (const byte of encodeHeader(version, ends)) {
        visitor.write(Buffer.of(byte))
        await new Promise((resolve) => setImmediate(resolve))
      }
      visitor.end("hello")
      const received = await readAll(await service.connection)
      assert.deepStrictEqual(received, Buffer.concat([encodeHeader("v2", ends), Buffer.from("hello")]))
    }
  )

  it("a trusted proxy without a header is reset, also when it is silent, and the operator is informed once", async () => {
    const { clock, listeners, port, problems } = await startTcp({ port: 1 }, behindProxy)
    for (const bytes of ["hello", "PROXY TCP9 \r\n"]) {
      const visitor = await visit(port, { localAddress: "127.0.0.2" })
      visitor.write(bytes)
      assert.strictEqual(await ending(visitor), "ECONNRESET")
    }
    const silent = await visit(port, { localAddress: "127.0.0.2" })
    await until(() => listeners.counts.openConnections === 1)
    clock.advance(10_000)
    assert.strictEqual(await ending(silent), "ECONNRESET")
    assert.strictEqual(listeners.counts.proxyRejections, 3)
    assert.strictEqual(problems.length, 1)
    assert.match(problems[0] ?? "", /trusted proxy 127\.0\.0\.2/u)
  })

  it("a header of another address is no header", async () => {
    const service = await serviceConnection()
    const { port } = await startTcp({ port: service.port }, behindProxy)
    const visitor = await visit(port)
    visitor.end(encodeHeader("v1", ends))
    assert.deepStrictEqual(await readAll(await service.connection), encodeHeader("v1", ends))
  })
})

/** A service that takes no byte until `release`. */
class StalledSocket extends Duplex {
  readonly received: Array<Buffer> = []
  #isReleased = false
  #waiting: (() => void) | undefined

  connect(): TunnelSocket {
    setImmediate(() => this.emit("connect"))
    return this as unknown as TunnelSocket
  }

  override _read(): void {}

  setNoDelay(): this {
    return this
  }

  setKeepAlive(): this {
    return this
  }

  resetAndDestroy(): this {
    return this.destroy()
  }

  release(): void {
    this.#isReleased = true
    this.#waiting?.()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.received.push(chunk)
    if (this.#isReleased) done()
    else this.#waiting = done
  }
}
