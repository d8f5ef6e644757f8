/** Order of the steps of a shutdown, as ARCHITECTURE.md lists them, read from the log of a real process. */
import { api } from "#support/apiClient.ts"
import { followEvents } from "#support/EventFollower.ts"
import { readAdminToken, startServer } from "#support/serverProcess.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { joinV1 } from "#support/TestClient.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"

const decodeLine = Schema.decodeUnknownSync(
  Schema.fromJsonString(Schema.Struct({ message: Schema.Union([Schema.String, Schema.Array(Schema.Unknown)]) }))
)

/** Steps that must come one after the other, by the line that each one logs. */
const chains = [
  [
    "shutdown: the WebSocket port accepts no more connections",
    "shutting down: closing 1 connections",
    "shutdown: clients of control.v1 have a time to reconnect",
    "shutdown: every WebSocket is closed",
    "shutdown: ended sessions are written",
    "shutdown: the lease is released",
    "shutdown: the high-water mark is written",
    "the embedded PostgreSQL has stopped",
    "the data directory is unlocked"
  ],
  [
    "shutdown: event streams are closed",
    "shutdown: the API has answered its last request",
    "shutdown: ended sessions are written"
  ],
  [
    "shutdown: every WebSocket is closed",
    "shutdown: the last events are sent to the other nodes",
    "shutdown: the lease is released"
  ]
] as const

describe("the shutdown", () => {
  it.live("the steps of a shutdown run in the order of ARCHITECTURE.md", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      const server = yield* startServer({ CONTROL_DATA_DIR: dataDir, CONTROL_LOG_LEVEL: "debug" })
      const token = yield* readAdminToken(dataDir)
      const { body: agent } = yield* Effect.promise(() =>
        api(server.apiUrl, token).post("/api/agents", { name: "home" })
      )
      const client = yield* joinV1(server.wsPort, "agent", agent.apiKey)
      const reader = yield* followEvents(server.apiUrl, token)
      server.signal("SIGTERM")
      assert.strictEqual((yield* client.closed).code, 1012)
      yield* reader.ended
      assert.strictEqual(yield* Effect.promise(() => server.exited), 0)

      const messages = server.output().split("\n").filter((line) => line.startsWith("{"))
        .map((line) => String(decodeLine(line).message))
      for (const chain of chains) {
        const found = messages.filter((message) => chain.some((step) => step === message))
        assert.deepStrictEqual(found, [...chain])
      }
    }), 60_000)
})
