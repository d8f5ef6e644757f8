/** A server whose process does not run for a while. */
import { api } from "#support/apiClient.ts"
import { readAdminToken, startServer } from "#support/serverProcess.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { join } from "#support/TestClient.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"

describe("a paused process", () => {
  it.live(
    "a process that was paused for longer than the heartbeat timeout evicts no client",
    () =>
      Effect.gen(function*() {
        const env = { CONTROL_HEARTBEAT_TIMEOUT: "5 seconds", CONTROL_HEARTBEAT_INTERVAL: "1 second" }
        const dataDir = yield* temporaryDirectory
        const server = yield* startServer({ CONTROL_DATA_DIR: dataDir, ...env })
        const operator = api(server.apiUrl, yield* readAdminToken(dataDir))
        const agents = yield* Effect.forEach(
          Array.from({ length: 20 }, (_, n) => `agent ${n}`),
          (name) => Effect.promise(async () => (await operator.post("/api/agents?wait=sent", { name })).body)
        )
        const clients = yield* Effect.forEach(agents, ({ apiKey }) => join(server.wsPort, "agent", apiKey))
        let sent = 0
        const heartbeats = setInterval(() => {
          sent += 1
          for (const client of clients) client.send({ type: "heartbeat", data: { timestamp: sent } })
        }, 250)
        yield* Effect.addFinalizer(() => Effect.sync(() => clearInterval(heartbeats)))
        const until = (count: number) =>
          Effect.repeat(Effect.promise(() => new Promise(setImmediate)), { until: () => sent >= count })
        yield* until(2)
        server.signal("SIGSTOP")
        // 44 heartbeats take at least 11 s, more than twice the heartbeat timeout.
        yield* until(46)
        server.signal("SIGCONT")
        yield* until(62)
        const { body } = yield* Effect.promise(() => operator.get("/api/clients"))
        assert.lengthOf(body.items, 20)
        assert.isTrue(clients.every(({ ws }) => ws.readyState === ws.OPEN))
      }),
    60_000
  )
})
