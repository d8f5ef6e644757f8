/** State file of the client library: content, mode, and resuming from it. */
import type { Apply } from "#sdk/ApplyQueue.ts"
import type { Change } from "#sdk/view.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { readdir, readFile, stat, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { agentConfig, authSuccess, timeline, tunnelDelta } from "./serverFrames.ts"
import { client, type ClientConnection, scriptedServer } from "./scriptedServer.ts"

const read = (path: string) => Effect.promise(() => readFile(path, "utf8"))

/** Runs a client that applies a config at revision 10 and writes its state file, then stops it. */
const writeState = (stateFile: string) =>
  Effect.scoped(Effect.gen(function*() {
    const server = yield* scriptedServer()
    const { engine, fiber } = yield* client({ url: server.url, stateFile })
    const peer = yield* server.connection
    yield* peer.expect("auth")
    peer.send(authSuccess({ resumed: false }), agentConfig({ revision: 10, tunnels: ["t0"] }))
    yield* peer.expect("ack")
    engine.stop("done")
    yield* Fiber.join(fiber)
  }))

const resumeOf = (peer: ClientConnection) => Effect.map(peer.expect("auth"), ({ resume }) => resume)

describe("the state file of a client", () => {
  it.effect("the state file contains the last applied view, has mode 0600, and leaves no temporary file", () =>
    Effect.gen(function*() {
      const directory = yield* temporaryDirectory
      const stateFile = join(directory, "deeper", "state.json")
      yield* writeState(stateFile)
      assert.deepStrictEqual(JSON.parse(yield* read(stateFile)), agentConfig({ revision: 10, tunnels: ["t0"] }))
      assert.strictEqual((yield* Effect.promise(() => stat(stateFile))).mode & 0o777, 0o600)
      assert.deepStrictEqual(yield* Effect.promise(() => readdir(join(directory, "deeper"))), ["state.json"])
    }))

  it.effect("the state file is applied before the first connection, and the client resumes from it", () =>
    Effect.gen(function*() {
      const stateFile = join(yield* temporaryDirectory, "state.json")
      yield* writeState(stateFile)
      const server = yield* scriptedServer()
      const changes: Array<Change> = []
      const connectionsAtApply: Array<number> = []
      const apply: Apply = (_view, change) => {
        connectionsAtApply.push(server.connections())
        changes.push(change)
      }
      const agent = yield* client({ url: server.url, stateFile, apply })
      const peer = yield* server.connection
      assert.deepStrictEqual(changes, [{ source: "disk", revision: 10, rows: [] }])
      assert.deepStrictEqual(connectionsAtApply, [0])
      assert.deepStrictEqual([...agent.views[0]?.tunnels.keys() ?? []], ["t0"])
      assert.deepStrictEqual(yield* resumeOf(peer), { timeline, revision: 10 })
    }))

  it.effect("the state file is ignored if it is damaged or belongs to the other type of client", () =>
    Effect.gen(function*() {
      const stateFile = join(yield* temporaryDirectory, "state.json")
      yield* writeState(stateFile)
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
        const server = yield* scriptedServer()
        const agent = yield* client({ url: server.url, stateFile })
        assert.isUndefined(yield* resumeOf(yield* server.connection), text)
        assert.isEmpty(agent.views)
      }
    }))

  it.effect("the state file does not contain a revision that could not be applied", () =>
    Effect.gen(function*() {
      const stateFile = join(yield* temporaryDirectory, "state.json")
      yield* writeState(stateFile)
      const server = yield* scriptedServer()
      yield* client({
        url: server.url,
        stateFile,
        apply: (_view, { revision }) => {
          if (revision === 11) throw new Error("no")
        }
      })
      const peer = yield* server.connection
      yield* peer.expect("auth")
      peer.send(authSuccess({ resumed: true }), tunnelDelta("delete", { id: "t0", revision: 11, previous: 10 }))
      yield* peer.expect("ack")
      yield* peer.expect("nack")
      assert.strictEqual(JSON.parse(yield* read(stateFile)).revision, 10)
    }))

  it.effect("the state file is not resumed from if its view cannot be applied at the start", () =>
    Effect.gen(function*() {
      const stateFile = join(yield* temporaryDirectory, "state.json")
      yield* writeState(stateFile)
      const server = yield* scriptedServer()
      yield* client({
        url: server.url,
        stateFile,
        apply: (_view, { source: from }) => {
          if (from === "disk") throw new Error("no")
        }
      })
      const peer = yield* server.connection
      assert.isUndefined(yield* resumeOf(peer))
      peer.send(authSuccess({ resumed: false }), agentConfig({ revision: 12 }))
      assert.deepStrictEqual(yield* peer.expect("ack"), { revision: 12 })
    }))

  it.effect("the state file is dropped with a resync if the view belongs to another client", () =>
    Effect.gen(function*() {
      const stateFile = join(yield* temporaryDirectory, "state.json")
      yield* writeState(stateFile)
      const server = yield* scriptedServer()
      const agent = yield* client({ url: server.url, stateFile })
      const peer = yield* server.connection
      yield* peer.expect("auth")
      peer.send(
        authSuccess({ resumed: true, id: "a2" }),
        tunnelDelta("create", { id: "t5", revision: 11, previous: 10 })
      )
      yield* peer.expect("resync")
      peer.send(agentConfig({ id: "a2", revision: 11, tunnels: ["t5"] }))
      assert.deepStrictEqual(yield* peer.expect("ack"), { revision: 11 })
      assert.deepStrictEqual([...agent.views.at(-1)?.tunnels.keys() ?? []], ["t5"])
    }))

  it.effect("a client never resumes from the state file of another client, on the next connection either", () =>
    Effect.gen(function*() {
      const stateFile = join(yield* temporaryDirectory, "state.json")
      yield* writeState(stateFile)
      const server = yield* scriptedServer()
      const agent = yield* client({ url: server.url, stateFile })
      const peer = yield* server.connection
      yield* peer.expect("auth")
      peer.send(authSuccess({ resumed: true, id: "a2" }))
      yield* peer.expect("resync")
      peer.close(1011)
      yield* agent.disconnected
      yield* TestClock.adjust("1 second")
      assert.isUndefined(yield* resumeOf(yield* server.connection))
    }))

  it.effect("a state file that cannot be written is reported as an event, and the client continues", () =>
    Effect.gen(function*() {
      const stateFile = join(yield* temporaryDirectory, "file")
      yield* Effect.promise(() => writeFile(stateFile, ""))
      const server = yield* scriptedServer()
      const agent = yield* client({ url: server.url, stateFile: join(stateFile, "state.json") })
      const peer = yield* server.connection
      yield* peer.expect("auth")
      peer.send(authSuccess({ resumed: false }), agentConfig({ revision: 10 }))
      assert.deepStrictEqual(yield* peer.expect("ack"), { revision: 10 })
      yield* agent.expect("connected")
      yield* agent.expect("ready")
      yield* agent.expect("applied")
      assert.strictEqual((yield* agent.expect("error")).code, "view_not_stored")
      yield* TestClock.adjust("20 seconds")
      yield* peer.expect("heartbeat")
    }))
})
