/** The server as a process: start, shutdown, crash, and restart of the database. */
import { api, type ApiResponse } from "#support/apiClient.ts"
import { newDatabase } from "#support/testDatabase.ts"
import { followEvents } from "#support/EventFollower.ts"
import { readAdminToken, spawnServer, startServer } from "#support/serverProcess.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { connect, join } from "#support/TestClient.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { createServer } from "node:net"

const created = (answer: ApiResponse) => {
  assert.strictEqual(answer.status, 201, JSON.stringify(answer.body))
  return answer.body
}

/** Starts a server with an embedded database, and returns it with an API client. */
const serverIn = Effect.fnUntraced(function*(dataDir: string, env: Record<string, string> = {}) {
  const server = yield* startServer({ CONTROL_DATA_DIR: dataDir, ...env })
  const token = yield* readAdminToken(dataDir)
  return { ...server, token, operator: api(server.apiUrl, token) }
})

const statusOf = (operator: ReturnType<typeof api>, id: string) =>
  Effect.promise(async () => (await operator.get(`/api/agents/${id}`)).body.status as string)

describe("the server process", () => {
  it.live(
    "the server starts an embedded database, drains with 1012 on SIGTERM, marks all clients offline, and exits with 0",
    () =>
      Effect.gen(function*() {
        const dataDir = yield* temporaryDirectory
        const server = yield* serverIn(dataDir)
        const agent = created(
          yield* Effect.promise(() => server.operator.post("/api/agents?wait=sent", { name: "home" }))
        )
        const client = yield* join(server.wsPort, "agent", agent.apiKey)
        assert.strictEqual(yield* statusOf(server.operator, agent.id), "online")
        const reader = yield* followEvents(server.apiUrl, server.token)
        server.signal("SIGTERM")
        assert.strictEqual((yield* client.closed).code, 1012)
        assert.strictEqual(yield* reader.ended, "complete")
        assert.strictEqual(yield* Effect.promise(() => server.exited), 0)
        const again = yield* serverIn(dataDir)
        assert.strictEqual(yield* statusOf(again.operator, agent.id), "offline")
        const back = yield* join(again.wsPort, "agent", agent.apiKey)
        assert.strictEqual(back.config.data["agent"].id, agent.id)
        assert.notInclude(server.output() + again.output(), agent.apiKey)
      }),
    60_000
  )

  it.live("the drain ends although a client does not answer the close frame", () =>
    Effect.gen(function*() {
      const server = yield* serverIn(yield* temporaryDirectory)
      const agent = created(
        yield* Effect.promise(() => server.operator.post("/api/agents?wait=sent", { name: "home" }))
      )
      const client = yield* join(server.wsPort, "agent", agent.apiKey)
      client.ws.pause()
      server.signal("SIGTERM")
      assert.strictEqual(yield* Effect.promise(() => server.exited), 0)
    }), 60_000)

  it.live(
    "after SIGKILL and a restart with the embedded database, clients are offline at once and online after their return",
    () =>
      Effect.gen(function*() {
        const dataDir = yield* temporaryDirectory
        const server = yield* serverIn(dataDir)
        const [gone, back] = yield* Effect.all(
          ["gone", "back"].map((name) =>
            Effect.promise(async () => created(await server.operator.post("/api/agents?wait=sent", { name })))
          )
        )
        yield* join(server.wsPort, "agent", gone.apiKey)
        yield* join(server.wsPort, "agent", back.apiKey)
        server.signal("SIGKILL")
        assert.strictEqual(yield* Effect.promise(() => server.exited), "SIGKILL")
        const again = yield* serverIn(dataDir)
        for (const { id } of [gone, back]) assert.strictEqual(yield* statusOf(again.operator, id), "offline")
        const { body: connected } = yield* Effect.promise(() => again.operator.get("/api/clients"))
        assert.deepStrictEqual(connected.items, [])
        yield* join(again.wsPort, "agent", back.apiKey)
        assert.strictEqual(yield* statusOf(again.operator, back.id), "online")
        assert.strictEqual(yield* statusOf(again.operator, gone.id), "offline")
        // The rows and the event stream do not wait for the end of a lease either, which would miss the client that is back.
        const marked = Effect.sync(() => /marked (\d) clients offline/u.exec(again.output())?.[1])
        assert.strictEqual(yield* Effect.repeat(marked, { until: (count) => count !== undefined }), "2")
      }),
    60_000
  )

  it.live("a crash and restart of the database closes no connection and loses no change", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      const server = yield* serverIn(dataDir)
      const agent = created(
        yield* Effect.promise(() => server.operator.post("/api/agents?wait=sent", { name: "home" }))
      )
      const gateway = created(
        yield* Effect.promise(() => server.operator.post("/api/gateways?wait=sent", { name: "edge" }))
      )
      const clients = [
        yield* join(server.wsPort, "agent", agent.apiKey),
        yield* join(server.wsPort, "gateway", gateway.apiKey)
      ]
      const { readFile } = yield* Effect.promise(() => import("node:fs/promises"))
      const postmaster = Number(
        (yield* Effect.promise(() => readFile(`${dataDir}/postgres/postmaster.pid`, "utf8"))).split("\n")[0]
      )
      process.kill(postmaster, "SIGKILL")
      // Writes fail with 503 until the database is back, and then succeed.
      const create = Effect.promise(() =>
        server.operator.post("/api/tunnels", { agentId: agent.id, domain: "after.example.com", target: "localhost:80" })
      )
      const answer = yield* Effect.repeat(create, { until: ({ status }) => status !== 503 })
      assert.strictEqual(answer.status, 201, JSON.stringify(answer.body))
      for (const client of clients) {
        const step = yield* client.expect("tunnel_create")
        assert.strictEqual(step.data["domain"], "after.example.com")
        assert.strictEqual(client.ws.readyState, client.ws.OPEN)
      }
      yield* Effect.repeat(Effect.promise(() => server.operator.get("/readyz")), {
        until: ({ status }) => status === 200
      })
    }), 60_000)

  it.live("a start that fails prints the reason in one sentence, and exits with 1", () =>
    Effect.gen(function*() {
      const fails = Effect.fnUntraced(function*(env: Record<string, string>, ...words: ReadonlyArray<string>) {
        const server = yield* spawnServer(env)
        assert.strictEqual(yield* Effect.promise(() => server.exited), 1, server.output())
        for (const word of words) assert.include(server.output(), word)
        assert.notMatch(server.output(), /\n\s+at /u, "no stack trace")
      })
      const { url } = yield* newDatabase
      const dataDir = yield* temporaryDirectory
      const taken = yield* Effect.acquireRelease(
        Effect.promise(() =>
          new Promise<ReturnType<typeof createServer>>((done) => {
            const server = createServer().listen(0, "127.0.0.1", () => done(server))
          })
        ),
        (server) => Effect.sync(() => server.close())
      )
      const address = taken.address()
      const port = String(typeof address === "object" ? address?.port : 0)
      yield* fails(
        { CONTROL_WS_PORT: "x", CONTROL_AUTH_TIMEOUT: "15s", DATABASE_URL: "mysql://user:secret@host/db" },
        "CONTROL_WS_PORT",
        "CONTROL_AUTH_TIMEOUT",
        "DATABASE_URL"
      )
      yield* fails(
        { DATABASE_URL: url, CONTROL_DATA_DIR: dataDir, CONTROL_WS_PORT: port },
        port,
        "another process uses it"
      )
      yield* fails(
        { DATABASE_URL: url, CONTROL_DATA_DIR: dataDir, CONTROL_API_PORT: port },
        port,
        "another process uses it"
      )
      yield* startServer({ DATABASE_URL: url, CONTROL_DATA_DIR: dataDir })
      yield* fails({ DATABASE_URL: url, CONTROL_DATA_DIR: dataDir }, "in use by")
      yield* fails({ DATABASE_URL: url, CONTROL_DATA_DIR: yield* temporaryDirectory }, "master key")
    }), 90_000)

  it.live("a second signal ends the process without waiting for the drain", () =>
    Effect.gen(function*() {
      const server = yield* serverIn(yield* temporaryDirectory)
      const agent = created(
        yield* Effect.promise(() => server.operator.post("/api/agents?wait=sent", { name: "home" }))
      )
      const client = yield* join(server.wsPort, "agent", agent.apiKey)
      const waiting = yield* connect(server.wsPort)
      client.ws.pause()
      waiting.ws.pause()
      // Signals within 1 s count as one, because npm forwards a signal that the terminal has sent as well.
      server.signal("SIGTERM")
      const signals = setInterval(() => server.signal("SIGINT"), 100)
      yield* Effect.addFinalizer(() => Effect.sync(() => clearInterval(signals)))
      const code = yield* Effect.promise(() => server.exited)
      assert.strictEqual(code, 130)
    }), 60_000)
})
