/** Limits on what a hostile server can make a client do. */
import { reconnectDelay } from "#sdk/reconnectDelay.ts"
import { readStateFile } from "#sdk/stateFile.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { execFileSync } from "node:child_process"
import { chmod, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { agentConfig, authSuccess } from "./serverFrames.ts"
import { client, connectedClient, scriptedServer } from "./scriptedServer.ts"

describe("a client of a hostile server", () => {
  it.effect("a client sends one heartbeat per interval even after 20 auth_success messages", () =>
    Effect.gen(function*() {
      const { peer } = yield* connectedClient()
      for (let times = 0; times < 20; times++) peer.send(authSuccess({ resumed: false }))
      // The ack shows that the client has read all of them.
      peer.send(agentConfig({ revision: 11 }))
      yield* peer.expect("ack")
      yield* TestClock.adjust("20 seconds")
      yield* peer.expect("heartbeat")
      peer.send(agentConfig({ revision: 12 }))
      yield* peer.expect("ack")
      assert.strictEqual(peer.unread(), 0)
    }))

  it.effect("a client closes the connection on a frame larger than 64 MiB", () =>
    Effect.gen(function*() {
      const { peer } = yield* connectedClient()
      peer.send(" ".repeat(64 * 1_024 * 1_024 + 1))
      // The client may be gone before its close frame can be read.
      assert.include([1009, 1006], yield* peer.closed)
    }))

  it.effect("a client backs off after repeated drains", () =>
    Effect.gen(function*() {
      const server = yield* scriptedServer()
      const agent = yield* client({ url: server.url })
      const drained = Effect.gen(function*() {
        const peer = yield* server.connection
        yield* peer.expect("auth")
        peer.send(authSuccess({ resumed: false }), { type: "drain", data: { reconnectAfterMs: 0 } })
        peer.close(1012)
        yield* agent.expect("connected")
        yield* agent.expect("ready")
        const { retryInMs } = yield* agent.expect("disconnected")
        yield* TestClock.adjust(retryInMs ?? 0)
        return retryInMs
      })
      const waits = yield* Effect.all([drained, drained, drained, drained])
      assert.strictEqual(waits[0], 0)
      assert.isAbove(waits[2] ?? 0, 0)
      assert.isAbove(waits[3] ?? 0, waits[2] ?? 0)
    }))

  it("a client adds a delay to that of a repeated drain", () => {
    const disconnect = { code: 1012, attempt: 3, retryAfterMillis: 0, random: 0.5 }
    assert.deepStrictEqual(reconnectDelay(disconnect), { _tag: "Wait", millis: 0 })
    assert.deepStrictEqual(reconnectDelay({ ...disconnect, isRepeatedDrain: true }), { _tag: "Wait", millis: 4_000 })
  })

  it.effect("a client ignores a state file that is a pipe or that every user may write", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const pipe = join(directory, "pipe")
      execFileSync("mkfifo", [pipe])
      assert.isUndefined(yield* readStateFile(pipe, "agent"))
      const file = join(directory, "state.json")
      yield* Effect.promise(() => writeFile(file, JSON.stringify(agentConfig({ revision: 3 })), { mode: 0o600 }))
      assert.strictEqual((yield* readStateFile(file, "agent"))?.revision, 3)
      yield* Effect.promise(() => chmod(file, 0o602))
      assert.isUndefined(yield* readStateFile(file, "agent"))
    }))
})
