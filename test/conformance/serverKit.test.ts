/** Conformance kit for servers: every transcript passes against Control. */
import { adminToken } from "#support/testDatabase.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { makeServer } from "#support/TestServer.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { readdirSync } from "node:fs"
import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import { conformance, failuresIn } from "./runKit.ts"

const settings = {
  authTimeout: Duration.seconds(2),
  heartbeatInterval: Duration.seconds(1),
  heartbeatTimeout: Duration.seconds(8)
}

/** Beginnings of the names of the transcripts. Each group has another server, because transcripts mostly wait. */
const groups = ["plain-", "upgrade-", "v1-a", "v1-"]

/** Runs the transcripts whose names begin with these words. Returns the number of those that passed. */
const passedOf = Effect.fnUntraced(function*(names: ReadonlyArray<string>) {
  const { apiUrl, wsPort } = yield* makeServer(settings)
  const tokenFile = join(yield* temporaryDirectory, "admin-token")
  yield* Effect.promise(() => writeFile(tokenFile, `${adminToken}\n`, { mode: 0o600 }))
  const only = names.flatMap((name) => ["--only", name])
  const target = ["--ws", `ws://127.0.0.1:${wsPort}`, "--api", apiUrl, "--token-file", tokenFile]
  const outcome = yield* conformance("server", "--time-factor", "5", "--slow", ...only, ...target)
  assert.strictEqual(outcome.code, 0, failuresIn(outcome))
  return Number(/^(\d+) passed, 0 failed$/mu.exec(outcome.printed)?.[1])
})

describe("the conformance kit for servers", () => {
  it.live("every transcript passes against Control", () =>
    Effect.gen(function*() {
      const names = readdirSync("conformance/server").map((file) => file.replace(".jsonl", ""))
      const byGroup = Map.groupBy(names, (name) => groups.find((group) => name.startsWith(group)) ?? "")
      const passed = yield* Effect.forEach(byGroup.values().toArray(), passedOf, { concurrency: "unbounded" })
      assert.strictEqual(passed.reduce((sum, count) => sum + count, 0), names.length)
    }).pipe(Effect.scoped), 240_000)
})
