import { temporaryDirectory } from "#support/process.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { readFile, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { conformance, python } from "./run.ts"

/** Nobody listens on port 2, which takes root; and it is none of the ports that `fetch` refuses by itself. */
const nobody = ["--ws", "ws://127.0.0.1:2", "--api", "http://127.0.0.1:2"]

const fails = Effect.fnUntraced(function*(expected: RegExp, ...args: ReadonlyArray<string>) {
  const { code, printed } = yield* conformance(...args)
  assert.strictEqual(code, 1, printed)
  assert.match(printed, expected)
  return printed
})

const written = Effect.fnUntraced(function*(name: string, content: string) {
  const path = join(yield* temporaryDirectory, name)
  yield* Effect.promise(() => writeFile(path, content))
  return path
})

describe("the conformance kit, when it cannot do its work", () => {
  it.live("says at once that the command cannot be started, and tries no other transcript", () =>
    Effect.gen(function*() {
      const printed = yield* fails(/could not be started: .*ENOENT/u, "client", "--", "/nowhere/agent")
      assert.match(printed, /^0 passed, 1 failed$/mu)
    }))

  it.live("says at once how the command has ended and what it had to say", () =>
    Effect.gen(function*() {
      const path = yield* written("ends.mjs", `console.error("no such option"); process.exit(3)`)
      const printed = yield* fails(/exit code 3.*\n +no such option/u, "client", "--", process.execPath, path)
      assert.match(printed, /^0 passed, 1 failed$/mu)
    }))

  // Where no Python is installed there is nothing to run the example with.
  it.live.skipIf(!python)(
    "says what is wrong with a client that leaves the connection open after drain",
    () =>
      Effect.gen(function*() {
        const good = yield* Effect.promise(() => readFile("examples/python/agent.py", "utf8"))
        const answer = "                self.send(8, payload[:2])\n"
        assert.include(good, answer)
        const bad = yield* written("open.py", good.replace(answer, "                time.sleep(20)\n"))
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

  it.live("stops at the first transcript when there is no server, with its address and the cause", () =>
    Effect.gen(function*() {
      const token = yield* written("token", "secret")
      const printed = yield* fails(/127\.0\.0\.1:2.*ECONNREFUSED/u, "server", ...nobody, "--token-file", token)
      assert.match(printed, /^0 passed, 1 failed$/mu)
    }))

  it.live("says that no transcript has the name", () =>
    Effect.asVoid(fails(/no transcript for a client has "draim"/u, "client", "--only", "draim", "--", "true")))
})
