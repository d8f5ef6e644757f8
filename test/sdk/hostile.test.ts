/** A server that means no good: what it can make a client do is bounded. */
import { backOff } from "#sdk/backOff.ts"
import { load } from "#sdk/ViewStore.ts"
import { temporaryDirectory } from "#support/process.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { execFileSync } from "node:child_process"
import { chmod, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { agentConfig, welcome } from "./frames.ts"
import { client, joined, scripted } from "./scripted.ts"

describe("a client of a hostile server", () => {
  it.effect("welcomed again and again, it sends no more heartbeats than one who was welcomed once", () =>
    Effect.gen(function*() {
      const { peer } = yield* joined()
      for (let times = 0; times < 20; times++) peer.say(welcome({ resumed: false }))
      // Its ack tells that all of them were heard.
      peer.say(agentConfig({ revision: 11 }))
      yield* peer.expect("ack")
      yield* TestClock.adjust("20 seconds")
      yield* peer.expect("heartbeat")
      peer.say(agentConfig({ revision: 12 }))
      yield* peer.expect("ack")
      assert.strictEqual(peer.waiting(), 0)
    }))

  it.effect("a frame larger than any view closes the connection before it is in memory", () =>
    Effect.gen(function*() {
      const { peer } = yield* joined()
      peer.say(" ".repeat(64 * 1_024 * 1_024 + 1))
      // The client may be gone before its close frame can be read.
      assert.include([1009, 1006], yield* peer.closed)
    }))

  it.effect("drained again right after a drain, it backs off as after any loss", () =>
    Effect.gen(function*() {
      const server = yield* scripted()
      const agent = yield* client({ url: server.url })
      const drained = Effect.gen(function*() {
        const peer = yield* server.connection
        yield* peer.expect("auth")
        peer.say(welcome({ resumed: false }), { type: "drain", data: { reconnectAfterMs: 0 } })
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

  it("the delay after a drain that follows a drain is never the server's alone", () => {
    const lost = { code: 1012, attempt: 3, afterMillis: 0, random: 0.5 }
    assert.deepStrictEqual(backOff(lost), { _tag: "Wait", millis: 0 })
    assert.deepStrictEqual(backOff({ ...lost, isDrainAgain: true }), { _tag: "Wait", millis: 4_000 })
  })

  it.effect("a state file that is a pipe, or that everybody may write, is as none", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const pipe = join(directory, "pipe")
      execFileSync("mkfifo", [pipe])
      assert.isUndefined(yield* load(pipe, "agent"))
      const file = join(directory, "state.json")
      yield* Effect.promise(() => writeFile(file, JSON.stringify(agentConfig({ revision: 3 })), { mode: 0o600 }))
      assert.strictEqual((yield* load(file, "agent"))?.revision, 3)
      yield* Effect.promise(() => chmod(file, 0o602))
      assert.isUndefined(yield* load(file, "agent"))
    }))
})
