/** A tunnel heals by itself after its agent, its gateway or its server is gone, and a move interrupts no running download. */
import { freePort } from "#support/freePort.ts"
import { TestServer } from "#support/TestServer.ts"
import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { createHash } from "node:crypto"
import { once } from "node:events"
import { Agent, createServer, type IncomingMessage, request } from "node:http"
import { type AddressInfo, connect, createServer as createTcp } from "node:net"
import { startTunnelNetwork, type TunnelNetwork } from "./TunnelNetwork.ts"

class SharedNetwork extends Context.Service<SharedNetwork, TunnelNetwork>()("test/tunnel/HealingNetwork") {
  static readonly layer = Layer.effect(SharedNetwork, startTunnelNetwork).pipe(Layer.provideMerge(TestServer.layer()))
}

/** A service that sends `bytes` bytes of its letter, the second half after `release` was called. */
const startSlowService = async (letter: string, bytes: number) => {
  const released = Promise.withResolvers<void>()
  const server = createServer((request, response) => {
    if (request.url !== "/download") return void response.end(letter)
    response.writeHead(200, { "Content-Length": bytes })
    response.write(Buffer.alloc(bytes / 2, letter))
    void released.promise.then(() => response.end(Buffer.alloc(bytes / 2, letter)))
  }).listen(0, "127.0.0.1").unref()
  await once(server, "listening")
  return { port: (server.address() as AddressInfo).port, release: released.resolve }
}

const get = async (port: number, host: string, path: string): Promise<IncomingMessage> => {
  const [response] = await once(
    request({ port, host: "127.0.0.1", path, headers: { host }, agent: false }).end(),
    "response"
  )
  return response
}

const textOf = async (response: IncomingMessage): Promise<string> => {
  let text = ""
  for await (const chunk of response) text += String(chunk)
  return text
}

/** Asks until the answer is 200; resolves with its text. */
const untilServed = async (port: number, host: string): Promise<string> => {
  while (true) {
    const response = await get(port, host, "/").catch(() => undefined)
    if (response?.statusCode === 200) return await textOf(response)
    response?.resume()
    await new Promise((resolve) => setImmediate(resolve))
  }
}

layer(SharedNetwork.layer, { excludeTestServices: true, timeout: 60_000 })("a tunnel heals", (it) => {
  it.effect("a tunnel that moves to another target serves the new one, and a running download ends unharmed", () =>
    Effect.gen(function*() {
      const { expose, httpPort } = yield* SharedNetwork
      const { operator } = yield* TestServer
      const bytes = 8_000_000
      const first = yield* Effect.promise(() => startSlowService("a", bytes))
      const next = yield* Effect.promise(() => startSlowService("b", bytes))
      const { id } = yield* expose({ domain: "moves.example.com", target: `127.0.0.1:${first.port}` })
      const download = yield* Effect.promise(() => get(httpPort, "moves.example.com", "/download"))
      const hash = createHash("sha256")
      download.on("data", (chunk: Buffer) => hash.update(chunk))
      const target = `127.0.0.1:${next.port}`
      yield* Effect.promise(() => operator.patch(`/api/tunnels/${id}?wait=serving&timeout=20s`, { target }))
      assert.strictEqual(yield* Effect.promise(() => untilServed(httpPort, "moves.example.com")), "b")
      first.release()
      yield* Effect.promise(() => once(download, "end"))
      assert.strictEqual(hash.digest("hex"), createHash("sha256").update(Buffer.alloc(bytes, "a")).digest("hex"))
    }))

  it.effect("a change of one tunnel drops no connection of another one", () =>
    Effect.gen(function*() {
      const { expose } = yield* SharedNetwork
      const { operator } = yield* TestServer
      const echo = createTcp((socket) => socket.on("error", () => {}).pipe(socket)).listen(0, "127.0.0.1").unref()
      yield* Effect.promise(() => once(echo, "listening"))
      const listenPort = yield* Effect.promise(freePort)
      const target = `127.0.0.1:${(echo.address() as AddressInfo).port}`
      yield* expose({ name: "steady", protocol: "tcp", listenPort, target })
      const sockets = yield* Effect.promise(() =>
        Promise.all(Array.from({ length: 200 }, async () => {
          const socket = connect({ host: "127.0.0.1", port: listenPort })
          await once(socket, "connect")
          socket.write("x")
          await once(socket, "data")
          return socket
        }))
      )
      let closed = 0
      for (const socket of sockets) socket.on("error", () => {}).on("close", () => (closed += 1))
      const other = yield* expose({ domain: "other.example.com", target })
      for (const enabled of [false, true, false]) {
        yield* Effect.promise(() => operator.patch(`/api/tunnels/${other.id}?wait=applied`, { enabled }))
      }
      yield* Effect.promise(() => operator.delete(`/api/tunnels/${other.id}?wait=applied`))
      const answers = yield* Effect.promise(() =>
        Promise.all(sockets.map(async (socket) => {
          socket.write("y")
          return String((await once(socket, "data"))[0])
        }))
      )
      assert.deepStrictEqual([closed, new Set(answers)], [0, new Set(["y"])])
      for (const socket of sockets) socket.destroy()
    }))

  it.effect("200 requests at once through a keep-alive pool all succeed", () =>
    Effect.gen(function*() {
      const { expose, httpPort } = yield* SharedNetwork
      const { port } = yield* Effect.promise(() => startSlowService("z", 2))
      yield* expose({ domain: "many.example.com", target: `127.0.0.1:${port}` })
      const agent = new Agent({ keepAlive: true, maxSockets: 200 })
      const answers = yield* Effect.promise(() =>
        Promise.all(Array.from({ length: 1_000 }, async () => {
          const sent = request({ port: httpPort, host: "127.0.0.1", headers: { host: "many.example.com" }, agent })
            .end()
          const [response] = await once(sent, "response")
          return `${response.statusCode} ${await textOf(response)}`
        }))
      )
      assert.deepStrictEqual(new Set(answers), new Set(["200 z"]))
      agent.destroy()
    }))

  // The last test, because the programs that it starts end with it.
  it.effect("after its agent was restarted, and after its gateway was restarted", () =>
    Effect.gen(function*() {
      const { agent, expose, gateway, httpPort, startAgent, startGateway } = yield* SharedNetwork
      const { port } = yield* Effect.promise(() => startSlowService("a", 2))
      yield* expose({ domain: "heals.example.com", target: `127.0.0.1:${port}` })
      yield* Effect.promise(agent.stop)
      const second = yield* startAgent
      assert.strictEqual(yield* Effect.promise(() => untilServed(httpPort, "heals.example.com")), "a")
      yield* Effect.promise(gateway.stop)
      const restarted = yield* startGateway
      assert.strictEqual(restarted.httpPort, httpPort)
      assert.strictEqual(yield* Effect.promise(() => untilServed(httpPort, "heals.example.com")), "a")
      yield* Effect.promise(second.stop)
      yield* startAgent
      assert.strictEqual(yield* Effect.promise(() => untilServed(httpPort, "heals.example.com")), "a")
    }))
})
