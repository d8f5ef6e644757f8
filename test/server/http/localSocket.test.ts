/** The API on the Unix socket of the data directory. */
import { OpenFiles } from "#ingress/connectionLimits.ts"
import { DataDirectory } from "#store/DataDirectory.ts"
import { newApiSocket } from "#store/apiSocket.ts"
import { readAdminToken } from "#support/serverProcess.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { testSettings } from "#support/testDatabase.ts"
import { makeServer } from "#support/TestServer.ts"
import { assert, describe, it } from "@effect/vitest"
import type { SettingsValues } from "#server/Settings.ts"
import { Effect, Exit, Layer, Option, Scope } from "effect"
import { chmodSync, existsSync, mkdirSync, statSync, symlinkSync } from "node:fs"
import { type IncomingMessage, request } from "node:http"
import { connect, createServer, type Socket } from "node:net"
import { join } from "node:path"

const send = (socketPath: string, path: string, headers: Record<string, string> = {}, method = "GET", body = "") =>
  new Promise<IncomingMessage>((done, fail) =>
    request({ socketPath, path, method, headers }, done).once("error", fail).end(body)
  )

const ask = async (...args: Parameters<typeof send>) => {
  const response = await send(...args)
  const text = (await response.toArray()).join("")
  return { status: response.statusCode, body: text === "" ? undefined : JSON.parse(text) }
}

/** A server that generates its token in the data directory. */
const serverWith = Effect.fnUntraced(function*(settings: Partial<SettingsValues> = {}) {
  const dataDir = yield* temporaryDirectory
  const server = yield* makeServer({ dataDir, adminToken: Option.none(), ...settings })
  const authorization = `Bearer ${yield* readAdminToken(dataDir)}`
  return { ...server, dataDir, authorization, socket: join(dataDir, "api", "socket") }
})

const loopback = { address: "127.0.0.0", length: 8, family: "ipv4" } as const

describe("the API on the Unix socket", () => {
  it.live("callers need a token and canonical paths, and no setting of the ports applies to them", () =>
    Effect.gen(function*() {
      const { authorization, dataDir, socket } = yield* serverWith({
        requireTls: true,
        proxyProtocol: "both",
        trustedProxies: [loopback]
      })
      assert.strictEqual(statSync(join(dataDir, "api")).mode & 0o777, 0o700)
      const headers = {
        authorization,
        host: "evil.example.com",
        "x-forwarded-for": "203.0.113.7",
        "x-forwarded-proto": "http",
        "content-type": "application/json"
      }
      yield* Effect.promise(async () => {
        assert.strictEqual((await ask(socket, "/api/agents", { host: "localhost" })).status, 401)
        assert.strictEqual((await ask(socket, "/API/agents", headers)).status, 404)
        assert.strictEqual((await ask(socket, "/api/agents", headers, "POST", `{"name":"home"}`)).status, 201)
        const { body } = await ask(socket, "/api/audit", headers)
        assert.deepInclude(body.items.at(-1), { action: "agent.create", actor: "admin", address: "socket" })
      })
    }))

  it.live("callers are served while other programs hold every connection of the API port", () =>
    Effect.gen(function*() {
      const { apiUrl, authorization, socket } = yield* Effect.provideService(serverWith(), OpenFiles, 128)
      const sockets: Array<Socket> = []
      yield* Effect.addFinalizer(() => Effect.sync(() => sockets.forEach((one) => one.destroy())))
      yield* Effect.promise(async () => {
        // Each of 2 addresses gets half of the 16 connections, with the reserve for this machine.
        const opened = Array.from({ length: 16 }, (_, index) =>
          new Promise<void>((done) =>
            sockets.push(
              connect({ port: Number(new URL(apiUrl).port), localAddress: `127.0.0.${2 + index % 2}` }, done)
            )
          ))
        await Promise.all(opened)
        const refused = await fetch(`${apiUrl}/healthz`).then(({ status }) => status, () => "refused")
        assert.strictEqual(refused, "refused")
        assert.strictEqual((await ask(socket, "/api/agents", { authorization })).status, 200)
      })
    }))

  it.live("event streams end with the server, and the socket is removed", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const { authorization, socket } = yield* Scope.provide(serverWith(), scope)
      const response = yield* Effect.promise(() => send(socket, "/api/events", { authorization }))
      assert.strictEqual(response.statusCode, 200)
      const ended = new Promise<boolean>((done) => response.resume().once("close", () => done(response.complete)))
      yield* Scope.close(scope, Exit.void)
      assert.isTrue(yield* Effect.promise(() => ended), "the stream has a regular end")
      assert.isFalse(existsSync(socket))
    }))

  it.live("a server starts without a socket if its directory is a symbolic link", () =>
    Effect.gen(function*() {
      const [dataDir, other] = [yield* temporaryDirectory, yield* temporaryDirectory]
      symlinkSync(other, join(dataDir, "api"))
      const { apiUrl } = yield* makeServer({ dataDir, adminToken: Option.none() })
      assert.strictEqual((yield* Effect.promise(() => fetch(`${apiUrl}/healthz`))).status, 200)
      assert.isFalse(existsSync(join(other, "socket")))
    }))
})

describe("newApiSocket", () => {
  const openIn = (dataDir: string) =>
    Effect.gen(function*() {
      yield* (yield* DataDirectory).open
      return Option.getOrThrow(yield* newApiSocket)
    }).pipe(
      Effect.provide(DataDirectory.layer.pipe(Layer.provide(testSettings({ dataDir, databaseUrl: Option.none() }))))
    )

  const listenAt = (path: string) =>
    Effect.acquireRelease(
      Effect.callback<ReturnType<typeof createServer>, Error>((resume) => {
        const server = createServer((socket) => socket.end())
        server.once("error", (error) => resume(Effect.fail(error))).listen(path, () => resume(Effect.succeed(server)))
      }),
      (server) => Effect.sync(() => server.close())
    )

  it.live("a directory of another mode is closed, and the socket of a killed process is replaced", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      mkdirSync(join(dataDir, "api"))
      chmodSync(join(dataDir, "api"), 0o777)
      // This listener stands for a killed process: both leave a socket that nothing removes.
      yield* listenAt(join(dataDir, "api", "socket"))
      yield* Effect.flatMap(openIn(dataDir), listenAt)
      assert.strictEqual(statSync(join(dataDir, "api")).mode & 0o777, 0o700)
    }))

  // Only Linux has paths below an open directory.
  it.live.skipIf(process.platform !== "linux")(
    "a data directory with a path of more than 107 bytes has a socket (needs Linux)",
    () =>
      Effect.gen(function*() {
        const dataDir = join(yield* temporaryDirectory, "d".repeat(120), "data")
        yield* Effect.flatMap(openIn(dataDir), listenAt)
        assert.isTrue(existsSync(join(dataDir, "api", "socket")))
      })
  )
})
