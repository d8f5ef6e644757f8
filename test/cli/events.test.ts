/** `control events --follow` against a scripted server: output, reconnecting and resuming. */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { runIn } from "./run.ts"

it.live("control events --follow resumes after the last event id, also before the first event", () =>
  Effect.gen(function*() {
    const resumedAfter: Array<string | undefined> = []
    const responses = [
      "id: boot.7\nretry: 2000\n\n",
      ": still here\n\nid: boot.8\nevent: change\ndata: {\"name\":\"\u009b2J\"}\n\n",
      undefined
    ]
    const server = createServer((request, response) => {
      const body = responses[resumedAfter.length]
      resumedAfter.push(request.headers["last-event-id"]?.toString())
      response.writeHead(body === undefined ? 401 : 200, { "content-type": "text/event-stream" })
      response.end(body ?? JSON.stringify({ title: "the admin token is wrong" }))
    })
    yield* Effect.acquireRelease(
      Effect.promise(() => new Promise<void>((done) => server.listen(0, "127.0.0.1", done))),
      () => Effect.sync(() => server.close())
    )
    const control = runIn({
      CONTROL_API_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      CONTROL_ADMIN_TOKEN: "x".repeat(32)
    })
    const { code, stderr, stdout } = yield* control("events", "--follow", "-o", "jsonl")
    assert.deepStrictEqual(resumedAfter, [undefined, "boot.7", "boot.8"])
    assert.strictEqual(stdout, `{"id":"boot.8","event":"change","data":{"name":"\\u009b2J"}}\n`)
    assert.strictEqual(code, 4)
    assert.include(stderr, "does not accept the admin token of CONTROL_ADMIN_TOKEN")
  }))
