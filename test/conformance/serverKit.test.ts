/** Conformance kit for servers: every transcript passes against Control. */
import { adminToken } from "#support/testDatabase.ts"
import { temporaryDirectory } from "#support/temporaryFiles.ts"
import { TestServer } from "#support/TestServer.ts"
import { assert, layer } from "@effect/vitest"
import { Context, Duration, Effect } from "effect"
import { HttpServer } from "effect/http"
import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import { conformance, failuresIn } from "./runKit.ts"

const settings = {
  authTimeout: Duration.seconds(2),
  heartbeatInterval: Duration.seconds(1),
  heartbeatTimeout: Duration.seconds(8)
}

layer(TestServer.layer(settings), { excludeTestServices: true })("the conformance kit for servers", (it) => {
  it.effect("every transcript passes against Control", () =>
    Effect.gen(function*() {
      const { context, wsPort } = yield* TestServer
      const { address } = Context.get(context, HttpServer.HttpServer)
      const tokenFile = join(yield* temporaryDirectory, "admin-token")
      yield* Effect.promise(() => writeFile(tokenFile, `${adminToken}\n`, { mode: 0o600 }))
      const api = `http://127.0.0.1:${"port" in address ? address.port : 0}`
      const outcome = yield* conformance(
        "server",
        "--time-factor",
        "5",
        "--slow",
        "--ws",
        `ws://127.0.0.1:${wsPort}`,
        "--api",
        api,
        "--token-file",
        tokenFile
      )
      assert.strictEqual(outcome.code, 0, failuresIn(outcome))
      assert.match(outcome.printed, /^\d{2,} passed, 0 failed$/mu)
    }), 240_000)
})
