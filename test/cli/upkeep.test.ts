/** `control backup`, `restore` and `doctor`: with a server, without one, and on a machine that had none. */
import { start, temporaryDirectory } from "#support/process.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { readFile, stat, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { runIn } from "./run.ts"

describe("control backup, restore and doctor", () => {
  it.live("work with a server and without one, and the server comes back with all of it", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      const file = join(yield* temporaryDirectory, "backup")
      const local = { CONTROL_DATA_DIR: dataDir, CONTROL_WS_HOST: "127.0.0.1" }
      const server = yield* start(local)
      const control = runIn({ ...local, CONTROL_API_PORT: new URL(server.apiUrl).port })
      const { id } = JSON.parse((yield* control("agent", "create", "--name", "kept", "-o", "json")).stdout)

      const made = yield* control("backup", file, "-o", "json")
      assert.strictEqual(made.code, 0, made.stderr)
      assert.include(made.stderr, "keep a copy of that key, apart from the file")
      assert.strictEqual(JSON.parse(made.stdout).agents, 1)
      assert.strictEqual((yield* Effect.promise(() => stat(file))).mode & 0o777, 0o600)
      const key = (yield* Effect.promise(() => readFile(join(dataDir, "master-key"), "utf8"))).trim()
      assert.notInclude((yield* Effect.promise(() => readFile(file))).toString("latin1"), key)
      const well = yield* control("doctor", "-o", "json")
      assert.strictEqual(well.code, 0, well.stdout)
      assert.include(well.stdout, "less than a day old")
      const busy = yield* control("restore", file, "--replace", "--yes")
      assert.strictEqual(busy.code, 1)
      assert.match(busy.stderr, /in use by process \d+ .*stop that one first/u)

      yield* control("agent", "create", "--name", "later")
      server.signal("SIGTERM")
      yield* Effect.promise(() => server.exited)
      const alone = yield* control("doctor", "-o", "json")
      assert.strictEqual(alone.code, 0, alone.stdout)
      assert.include(alone.stdout, "no server was asked")
      const second = yield* control("backup", `${file}2`, "-o", "json")
      assert.strictEqual(JSON.parse(second.stdout).agents, 2, second.stderr)
      const refused = yield* control("restore", file)
      assert.strictEqual(refused.code, 1)
      assert.include(refused.stderr, "it has 2 agents")
      const unsaid = yield* control("restore", file, "--replace")
      assert.strictEqual(unsaid.code, 2)
      assert.include(unsaid.stderr, "--yes")
      const restored = yield* control("restore", file, "--replace", "--yes", "-o", "json")
      assert.strictEqual(restored.code, 0, restored.stderr)

      const again = yield* start(local)
      const after = runIn({ ...local, CONTROL_API_PORT: new URL(again.apiUrl).port })
      const agents = JSON.parse((yield* after("agent", "list", "-o", "json")).stdout)
      assert.deepStrictEqual(agents.map((agent: { id: string }) => agent.id), [id])
    }), 120_000)

  it.live(
    "bring a new machine to where the old one was, given the master key and nothing else",
    () =>
      Effect.gen(function*() {
        const [old, next] = [yield* temporaryDirectory, yield* temporaryDirectory]
        const file = join(old, "backup")
        const server = yield* start({ CONTROL_DATA_DIR: old })
        const control = runIn({ CONTROL_API_URL: server.apiUrl, CONTROL_DATA_DIR: old })
        yield* control("agent", "create", "--name", "kept")
        assert.strictEqual((yield* control("backup", file)).code, 0)

        const there = runIn({ CONTROL_DATA_DIR: next })
        const keyless = yield* there("restore", file)
        assert.strictEqual(keyless.code, 1)
        assert.include(keyless.stderr, "there is no master key")
        const wrong = runIn({ CONTROL_DATA_DIR: next, CONTROL_MASTER_KEY: Buffer.alloc(32, 7).toString("base64") })
        assert.match(
          (yield* wrong("restore", file)).stderr,
          /encrypted under master key [0-9a-f]{16}, but the one given is/u
        )
        const key = yield* Effect.promise(() => readFile(join(old, "master-key")))
        yield* Effect.promise(() => writeFile(join(next, "master-key"), key, { mode: 0o600 }))
        const done = yield* there("restore", file)
        assert.strictEqual(done.code, 0, done.stderr)
        const again = yield* start({ CONTROL_DATA_DIR: next })
        const after = runIn({ CONTROL_API_URL: again.apiUrl, CONTROL_DATA_DIR: next })
        assert.include((yield* after("agent", "list")).stdout, "kept")
      }),
    120_000
  )

  it.live("say what a start would say: no database, a bad setting, a file that is none", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      const nothing = yield* runIn({ CONTROL_DATA_DIR: dataDir })("backup", join(dataDir, "b"))
      assert.strictEqual(nothing.code, 1)
      assert.include(nothing.stderr, "there is no database in")
      const bad = yield* runIn({ CONTROL_DATA_DIR: dataDir, CONTROL_WS_PORT: "x" })("doctor")
      assert.strictEqual(bad.code, 1)
      assert.match(bad.stdout, /fail +settings +CONTROL_WS_PORT is "x"/u)
      const usage = yield* runIn({ CONTROL_DATA_DIR: dataDir, CONTROL_WS_PORT: "x" })("backup", join(dataDir, "b"))
      assert.strictEqual(usage.code, 2)
      yield* Effect.promise(() => writeFile(join(dataDir, "b"), "no backup"))
      yield* Effect.promise(() =>
        writeFile(join(dataDir, "master-key"), Buffer.alloc(32).toString("base64"), { mode: 0o600 })
      )
      const none = yield* runIn({ CONTROL_DATA_DIR: dataDir })("restore", join(dataDir, "b"))
      assert.strictEqual(none.code, 1)
      assert.include(none.stderr, "it is damaged, or no gzip file")
      const unreachable = yield* runIn({ CONTROL_DATA_DIR: dataDir, DATABASE_URL: "postgres://u@127.0.0.1:9/x" })(
        "backup",
        "x"
      )
      assert.strictEqual(unreachable.code, 5, unreachable.stderr)
    }), 60_000)
})
