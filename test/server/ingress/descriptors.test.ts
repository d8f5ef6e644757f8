/** A process with few file descriptors during floods of connections. */
import { api } from "#support/apiClient.ts"
import { newDatabase } from "#support/testDatabase.ts"
import { readAdminToken, startServer } from "#support/serverProcess.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { join } from "#support/TestClient.ts"
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { connect, type Socket } from "node:net"

const oneAddress = () => "127.0.0.9"

const spread = (index: number) => `127.0.1.${index + 1}`

/** Opens `count` silent connections from other addresses than the test's, and waits until `untilClosed` of them are closed. */
const flood = Effect.fnUntraced(
  function*(port: number, count: number, untilClosed: number, addressOf: (index: number) => string = oneAddress) {
    const sockets: Array<Socket> = []
    yield* Effect.addFinalizer(() => Effect.sync(() => sockets.forEach((socket) => socket.destroy())))
    yield* Effect.promise(() =>
      new Promise<void>((done) => {
        let closed = 0
        for (let index = 0; index < count; index += 1) {
          const socket = connect({ port, host: "127.0.0.1", localAddress: addressOf(index) }).on("error", () => {}).on(
            "close",
            () => {
              closed += 1
              if (closed >= untilClosed) done()
            }
          )
          sockets.push(socket)
        }
      })
    )
    return Effect.sync(() => sockets.forEach((socket) => socket.destroy()))
  }
)

const serverWith = Effect.fnUntraced(function*(openFiles: number) {
  const { url } = yield* newDatabase
  const dataDir = yield* temporaryDirectory
  const server = yield* startServer(
    { DATABASE_URL: url, CONTROL_DATA_DIR: dataDir, CONTROL_MAX_CONNECTIONS: "1000" },
    openFiles
  )
  const operator = api(server.apiUrl, yield* readAdminToken(dataDir))
  const { body: agent } = yield* Effect.promise(() => operator.post("/api/agents", { name: "home" }))
  const client = yield* join(server.wsPort, "agent", agent.apiKey)
  const newTunnel = (domain: string) =>
    Effect.tryPromise(() => operator.post("/api/tunnels", { agentId: agent.id, domain, target: "localhost:80" }))
  return { ...server, operator, agent, client, newTunnel }
})

it.live(
  "a flood of connections from one address is closed at its share, and other clients, the API and the database still work",
  () =>
    Effect.gen(function*() {
      const server = yield* serverWith(128)
      // 128 descriptors minus 16 for the API and 64 reserved are 48. A quarter is for connections without a request.
      yield* flood(server.wsPort, 200, 200 - 6)
      yield* flood(Number(new URL(server.apiUrl).port), 100, 100 - 8)
      assert.strictEqual((yield* server.newTunnel("during.example.com")).status, 201)
      assert.strictEqual((yield* server.client.expect("tunnel_create")).data["domain"], "during.example.com")
      yield* join(server.wsPort, "agent", server.agent.apiKey)
      assert.include(server.output(), "open files allows 36 connections of agents and gateways")
      assert.include(
        server.output(),
        "closing new connections of agents and gateways from 127.0.0.9: the limit of 6 connections without a request for one address is reached"
      )
    }),
  60_000
)

it.live(
  "a process with hardly any free descriptors survives floods from many addresses, and serves again after them",
  () =>
    Effect.gen(function*() {
      const server = yield* serverWith(36)
      const apiPort = Number(new URL(server.apiUrl).port)
      const endFlood = yield* Effect.zipWith(
        flood(server.wsPort, 100, 100 - 2, spread),
        flood(apiPort, 100, 100 - 8, spread),
        (one, other) => Effect.andThen(one, other)
      )
      yield* endFlood
      // The server notices closed connections a moment later. Until then it may still close this one.
      const response = yield* Effect.retry(server.newTunnel("after.example.com"), { times: 100_000 })
      assert.strictEqual(response.status, 201)
      assert.strictEqual((yield* server.client.expect("tunnel_create")).data["domain"], "after.example.com")
      yield* Effect.retry(join(server.wsPort, "agent", server.agent.apiKey), { times: 100_000 })
    }),
  60_000
)
