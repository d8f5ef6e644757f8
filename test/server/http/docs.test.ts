/** The documents of the running server are the published ones. */
import { api } from "#support/apiClient.ts"
import { TestServer } from "#support/TestServer.ts"
import { assert, layer } from "@effect/vitest"
import { Context, Effect } from "effect"
import { HttpServer } from "effect/http"
import { readFileSync } from "node:fs"
import { join } from "node:path"

const generated = join(import.meta.dirname, "../../../schema/generated")

layer(TestServer.layer(), { excludeTestServices: true })("API documents", (it) => {
  for (const name of ["openapi.json", "asyncapi.json"]) {
    it.effect(`/${name} equals the published document and needs no token`, () =>
      Effect.gen(function*() {
        const { context } = yield* TestServer
        const { address } = Context.get(context, HttpServer.HttpServer)
        const anonymous = api(`http://127.0.0.1:${"port" in address ? address.port : 0}`)
        const { body, headers, status } = yield* Effect.promise(() => anonymous.get(`/${name}`))
        assert.strictEqual(status, 200)
        assert.strictEqual(headers.get("content-type"), "application/json")
        assert.deepStrictEqual(body, JSON.parse(readFileSync(join(generated, name), "utf8")))
      }))
  }
})
