/** Conformance kit: errors of its setup and of clients that violate the protocol. */
import { recordingServer, redirectingServer } from "#support/httpServer.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { conformance, python } from "./runKit.ts"

/** Port 2 has no listener, because listening on it requires root. `fetch` does not block this port. */
const unreachable = ["--ws", "ws://127.0.0.1:2", "--api", "http://127.0.0.1:2"]

const fails = Effect.fnUntraced(function*(expected: RegExp, ...args: ReadonlyArray<string>) {
  const { code, printed } = yield* conformance(...args)
  assert.strictEqual(code, 1, printed)
  assert.match(printed, expected)
  return printed
})

const writeTemporary = Effect.fnUntraced(function*(name: string, content: string) {
  const path = join(yield* temporaryDirectory, name)
  yield* Effect.promise(() => writeFile(path, content))
  return path
})

describe("errors of the conformance kit", () => {
  it.live("the kit reports a command that cannot be started and skips all other transcripts", () =>
    Effect.gen(function*() {
      const printed = yield* fails(/could not be started: .*ENOENT/u, "client", "--", "/nowhere/agent")
      assert.match(printed, /^0 passed, 1 failed$/mu)
    }))

  it.live("the kit reports the exit code and the standard error of a command that exits", () =>
    Effect.gen(function*() {
      const path = yield* writeTemporary("ends.mjs", `console.error("no such option"); process.exit(3)`)
      const printed = yield* fails(/exit code 3.*\n +no such option/u, "client", "--", process.execPath, path)
      assert.match(printed, /^0 passed, 1 failed$/mu)
    }))

  // The example needs an installed Python.
  it.live.skipIf(!python)(
    "the kit reports a client that leaves the connection open after drain",
    () =>
      Effect.gen(function*() {
        const good = yield* Effect.promise(() => readFile("examples/python/agent.py", "utf8"))
        const answer = "                self.send(8, payload[:2])\n"
        assert.include(good, answer)
        const bad = yield* writeTemporary("open.py", good.replace(answer, "                time.sleep(20)\n"))
        yield* fails(
          /left the connection open .* after the close frame 1012/u,
          "client",
          "--only",
          "drain",
          "--",
          python ?? "",
          bad
        )
      }),
    30_000
  )

  it.live("the kit stops at the first transcript if the server is unreachable, and reports address and cause", () =>
    Effect.gen(function*() {
      const token = yield* writeTemporary("token", "secret")
      const printed = yield* fails(/127\.0\.0\.1:2.*ECONNREFUSED/u, "server", ...unreachable, "--token-file", token)
      assert.match(printed, /^0 passed, 1 failed$/mu)
    }))

  it.live("the kit sends no admin token to a server unless --token-file names one", () =>
    Effect.gen(function*() {
      const { code, printed } = yield* conformance("server", ...unreachable)
      assert.strictEqual(code, 2)
      assert.include(printed, "--token-file")
    }))

  it.live("the kit follows no redirect, so that another server receives no request", () =>
    Effect.gen(function*() {
      const token = yield* writeTemporary("token", "secret")
      const { received, url } = yield* recordingServer
      const api = yield* redirectingServer(url)
      yield* fails(/unexpected redirect/u, "server", "--ws", "ws://127.0.0.1:2", "--api", api, "--token-file", token)
      assert.deepStrictEqual(received, [])
    }))

  it.live("the kit reports a name that no transcript has", () =>
    Effect.asVoid(fails(/no transcript for a client has "draim"/u, "client", "--only", "draim", "--", "true")))
})
