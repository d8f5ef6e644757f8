import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { AgentMessage } from "#schema/agent.ts"
import { ControlMessage } from "#schema/control.ts"
import { GatewayMessage } from "#schema/gateway.ts"
import { jsonSchema, renderAll, renderPage } from "#schema/render.ts"

const root = join(import.meta.dirname, "../..")
const read = (path: string) => readFileSync(join(root, path), "utf8")
const page = read("protocol.md")

describe("the published protocol", () => {
  for (const [path, text] of Object.entries(renderAll(page))) {
    it(`${path} says what the schemas say (else: npm run generate)`, () => {
      assert.strictEqual(read(path), text)
    })
  }

  it("drifts visibly: a row changed by hand does not survive the next generation", () => {
    const changed = page.replace("| 4401 | authentication failed |", "| 4401 | something else |")
    assert.notStrictEqual(changed, page)
    assert.strictEqual(renderPage(changed), page)
  })

  it("has every block exactly where the page asks for it", () => {
    assert.throws(() => renderPage(page.replace("generated: states", "generated: countries")), /countries/u)
    assert.throws(() => renderPage(""), /no block for: client-messages/u)
  })

  it("has a definition for every reference", () => {
    const text = JSON.stringify(jsonSchema())
    const defined = new Set(Object.keys(jsonSchema().$defs))
    const referenced = [...text.matchAll(/"#\/\$defs\/([^"]+)"/gu)].map(([, name]) => name ?? "")
    assert.deepStrictEqual(referenced.filter((name) => !defined.has(name)), [])
    assert.isAbove(referenced.length, 0)
  })
})

describe("the examples", () => {
  for (const schema of [...AgentMessage.members, ...GatewayMessage.members, ...ControlMessage.members]) {
    const { examples = [], identifier } = Schema.resolveAnnotations(schema) ?? {}
    it.effect(`of ${identifier} are such messages, with no field too many`, () =>
      Effect.gen(function*() {
        assert.isNotEmpty(examples)
        const decode = Schema.decodeUnknownEffect(schema, { onExcessProperty: "error" })
        for (const example of examples) yield* decode(example)
      }))
  }
})
