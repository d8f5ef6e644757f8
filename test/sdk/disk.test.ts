import type { Apply } from "#sdk/Applier.ts"
import type { Change } from "#sdk/view.ts"
import { temporaryDirectory } from "#support/process.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { readdir, readFile, stat, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { agentConfig, timeline, tunnelStep, welcome } from "./frames.ts"
import { client, type Peer, scripted } from "./scripted.ts"

const read = (path: string) => Effect.promise(() => readFile(path, "utf8"))

/** Lets a client apply a config at revision 10 and keep it, and ends it. */
const leave = (stateFile: string) =>
  Effect.scoped(Effect.gen(function*() {
    const server = yield* scripted()
    const { engine, fiber } = yield* client({ url: server.url, stateFile })
    const peer = yield* server.connection
    yield* peer.expect("auth")
    peer.say(welcome({ resumed: false }), agentConfig({ revision: 10, tunnels: ["t0"] }))
    yield* peer.expect("ack")
    engine.stop("done")
    yield* Fiber.join(fiber)
  }))

const resumeOf = (peer: Peer) => Effect.map(peer.expect("auth"), ({ resume }) => resume)

describe("a client's state file", () => {
  it.effect("has the last good view, is written whole, and is for its owner alone", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const stateFile = join(directory, "deeper", "state.json")
      yield* leave(stateFile)
      assert.deepStrictEqual(JSON.parse(yield* read(stateFile)), agentConfig({ revision: 10, tunnels: ["t0"] }))
      assert.strictEqual((yield* Effect.promise(() => stat(stateFile))).mode & 0o777, 0o600)
      assert.deepStrictEqual(yield* Effect.promise(() => readdir(join(directory, "deeper"))), ["state.json"])
    }))

  it.effect("is in force before the first connection is made, and is where the client resumes", () =>
    Effect.gen(function*() {
      const stateFile = join(yield* temporaryDirectory, "state.json")
      yield* leave(stateFile)
      const server = yield* scripted()
      const changes: Array<Change> = []
      const seen: Array<number> = []
      const apply: Apply = (_view, change) => {
        seen.push(server.connections())
        changes.push(change)
      }
      const agent = yield* client({ url: server.url, stateFile, apply })
      const peer = yield* server.connection
      assert.deepStrictEqual(changes, [{ from: "disk", revision: 10, rows: [] }])
      assert.deepStrictEqual(seen, [0])
      assert.deepStrictEqual([...agent.views[0]?.tunnels.keys() ?? []], ["t0"])
      assert.deepStrictEqual(yield* resumeOf(peer), { timeline, revision: 10 })
    }))

  it.effect("a damaged file, or one of the other kind of client, is as none", () =>
    Effect.gen(function*() {
      const stateFile = join(yield* temporaryDirectory, "state.json")
      yield* leave(stateFile)
      const good = yield* read(stateFile)
      const broken = [
        "",
        "{",
        "[]",
        good.slice(0, -1),
        good.replace("\"revision\":10", "\"revision\":-1"),
        good.replace("\"agent\"", "\"gateway\"")
      ]
      for (const text of broken) {
        yield* Effect.promise(() => writeFile(stateFile, text))
        const server = yield* scripted()
        const agent = yield* client({ url: server.url, stateFile })
        assert.isUndefined(yield* resumeOf(yield* server.connection), text)
        assert.isEmpty(agent.views)
      }
    }))

  it.effect("does not get what could not be applied", () =>
    Effect.gen(function*() {
      const stateFile = join(yield* temporaryDirectory, "state.json")
      yield* leave(stateFile)
      const server = yield* scripted()
      yield* client({
        url: server.url,
        stateFile,
        apply: (_view, { revision }) => {
          if (revision === 11) throw new Error("no")
        }
      })
      const peer = yield* server.connection
      yield* peer.expect("auth")
      peer.say(welcome({ resumed: true }), tunnelStep("delete", { id: "t0", revision: 11, previous: 10 }))
      yield* peer.expect("ack")
      yield* peer.expect("nack")
      assert.strictEqual(JSON.parse(yield* read(stateFile)).revision, 10)
    }))

  it.effect("a view that cannot be applied at the start is not resumed from", () =>
    Effect.gen(function*() {
      const stateFile = join(yield* temporaryDirectory, "state.json")
      yield* leave(stateFile)
      const server = yield* scripted()
      yield* client({
        url: server.url,
        stateFile,
        apply: (_view, { from }) => {
          if (from === "disk") throw new Error("no")
        }
      })
      const peer = yield* server.connection
      assert.isUndefined(yield* resumeOf(peer))
      peer.say(welcome({ resumed: false }), agentConfig({ revision: 12 }))
      assert.deepStrictEqual(yield* peer.expect("ack"), { revision: 12 })
    }))

  it.effect("the view of another client is not gone on with: a whole config is asked for", () =>
    Effect.gen(function*() {
      const stateFile = join(yield* temporaryDirectory, "state.json")
      yield* leave(stateFile)
      const server = yield* scripted()
      const agent = yield* client({ url: server.url, stateFile })
      const peer = yield* server.connection
      yield* peer.expect("auth")
      peer.say(welcome({ resumed: true, id: "a2" }), tunnelStep("create", { id: "t5", revision: 11, previous: 10 }))
      yield* peer.expect("resync")
      peer.say(agentConfig({ id: "a2", revision: 11, tunnels: ["t5"] }))
      assert.deepStrictEqual(yield* peer.expect("ack"), { revision: 11 })
      assert.deepStrictEqual([...agent.views.at(-1)?.tunnels.keys() ?? []], ["t5"])
    }))

  it.effect("and it is not resumed with on the next connection either, should the config not have come", () =>
    Effect.gen(function*() {
      const stateFile = join(yield* temporaryDirectory, "state.json")
      yield* leave(stateFile)
      const server = yield* scripted()
      const agent = yield* client({ url: server.url, stateFile })
      const peer = yield* server.connection
      yield* peer.expect("auth")
      peer.say(welcome({ resumed: true, id: "a2" }))
      yield* peer.expect("resync")
      peer.close(1011)
      yield* agent.lost
      yield* TestClock.adjust("1 second")
      assert.isUndefined(yield* resumeOf(yield* server.connection))
    }))

  it.effect("a file that cannot be written is told of, and harms nothing", () =>
    Effect.gen(function*() {
      const stateFile = join(yield* temporaryDirectory, "file")
      yield* Effect.promise(() => writeFile(stateFile, ""))
      const server = yield* scripted()
      const agent = yield* client({ url: server.url, stateFile: join(stateFile, "state.json") })
      const peer = yield* server.connection
      yield* peer.expect("auth")
      peer.say(welcome({ resumed: false }), agentConfig({ revision: 10 }))
      assert.deepStrictEqual(yield* peer.expect("ack"), { revision: 10 })
      yield* agent.expect("connected")
      yield* agent.expect("ready")
      yield* agent.expect("applied")
      assert.strictEqual((yield* agent.expect("error")).code, "view_not_stored")
      yield* TestClock.adjust("20 seconds")
      yield* peer.expect("heartbeat")
    }))
})
