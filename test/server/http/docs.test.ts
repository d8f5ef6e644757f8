/** The documents of the running server are the published ones, cacheable, and free of other hosts. */
import { openApi } from "#schema/openapi.ts"
import { startScript, swaggerUi } from "#http/docsPage.ts"
import { TestServer } from "#support/TestServer.ts"
import { assert, describe, it as test, layer } from "@effect/vitest"
import { Context, Effect } from "effect"
import { HttpServer } from "effect/http"
import { readFileSync } from "node:fs"
import { join } from "node:path"

const generated = join(import.meta.dirname, "../../../schema/generated")

const anonymousGet = Effect.fnUntraced(function*(path: string, headers: Record<string, string> = {}) {
  const { context } = yield* TestServer
  const { address } = Context.get(context, HttpServer.HttpServer)
  const url = `http://127.0.0.1:${"port" in address ? address.port : 0}${path}`
  return yield* Effect.promise(async () => {
    const response = await fetch(url, { headers })
    return { response, text: await response.text() }
  })
})

layer(TestServer.layer(), { excludeTestServices: true })("API documents", (it) => {
  for (const name of ["openapi.json", "asyncapi.json"]) {
    it.effect(`/${name} equals the published document and needs no token`, () =>
      Effect.gen(function*() {
        const { response, text } = yield* anonymousGet(`/${name}`)
        assert.strictEqual(response.status, 200)
        assert.strictEqual(response.headers.get("content-type"), "application/json")
        assert.deepStrictEqual(JSON.parse(text), JSON.parse(readFileSync(join(generated, name), "utf8")))
      }))
  }

  const paths = [
    "/openapi.json",
    "/asyncapi.json",
    "/docs",
    "/docs/start.js",
    "/docs/swagger-ui.js",
    "/docs/swagger-ui.css"
  ]
  for (const path of paths) {
    it.effect(`${path} is compressed, and a caller who has it gets 304 without a body`, () =>
      Effect.gen(function*() {
        const first = yield* anonymousGet(path)
        assert.strictEqual(first.response.status, 200)
        assert.strictEqual(first.response.headers.get("content-encoding"), "gzip")
        const etag = first.response.headers.get("etag") ?? assert.fail("no etag")
        const plain = yield* anonymousGet(path, { "accept-encoding": "gzip;q=0" })
        assert.strictEqual(plain.response.headers.get("content-encoding"), null)
        assert.strictEqual(plain.text, first.text)
        const second = yield* anonymousGet(path, { "if-none-match": `"other", ${etag}` })
        assert.strictEqual(second.response.status, 304)
        assert.strictEqual(second.text, "")
        assert.strictEqual((yield* anonymousGet(path, { "if-none-match": "\"other\"" })).response.status, 200)
      }))
  }

  it.effect("/docs lists every operation without a script, and all responses of the API itself stay uncached", () =>
    Effect.gen(function*() {
      const page = (yield* anonymousGet("/docs")).text
      const { paths } = JSON.parse((yield* anonymousGet("/openapi.json")).text) as { paths: Record<string, object> }
      for (const path of Object.keys(paths)) assert.include(page, `<code>${path}</code>`)
      assert.notMatch(page, /https?:\/\//u)
      assert.strictEqual((yield* anonymousGet("/api/agents")).response.headers.get("cache-control"), "no-store")
    }))
})

describe("Swagger UI", () => {
  test("is taken from Effect as a script and a style sheet, and asks no public validator", async () => {
    const { css, javascript } = await Effect.runPromise(swaggerUi)
    assert.include(css, ".swagger-ui")
    assert.doesNotThrow(() => new Function(javascript))
    assert.include(javascript, "SwaggerUIBundle")
    assert.include(startScript, "validatorUrl: null")
  })

  test("has an example for every number and text of a body, because it makes one up otherwise", () => {
    assert.deepStrictEqual(withoutExample(openApi().components.schemas, "#"), [])
  })
})

/** Paths of numbers and texts that have no example. */
function withoutExample(node: unknown, path: string): ReadonlyArray<string> {
  if (typeof node !== "object" || node === null) return []
  const isScalar = "type" in node && (node.type === "integer" || node.type === "string")
  const own = isScalar && !["examples", "default", "enum", "const"].some((key) => key in node) ? [path] : []
  return [...own, ...Object.entries(node).flatMap(([key, value]) => withoutExample(value, `${path}/${key}`))]
}
