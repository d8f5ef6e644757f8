import { readFrame } from "#sdk/messages.ts"
import { AgentMessage, AgentMessageV1 } from "#schema/agentMessages.ts"
import { ControlMessage } from "#schema/controlMessages.ts"
import { ControlMessageV1 } from "#schema/controlMessagesV1.ts"
import { GatewayMessage, GatewayMessageV1 } from "#schema/gatewayMessages.ts"
import { renderAll, renderPage } from "#schema/render.ts"
import { definitionsOf, jsonSchema, members, receiversOf } from "#schema/renderSchema.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"

const root = join(import.meta.dirname, "../..")
const read = (path: string) => readFileSync(join(root, path), "utf8")
const page = read("protocol.md")
const published = renderAll(page)

describe("the published protocol", () => {
  for (const [path, text] of Object.entries(published)) {
    it(`${path} says what the schemas say (else: npm run generate)`, () => {
      assert.strictEqual(read(path), text)
    })
  }

  it("nothing is among the generated files that nobody generates", () => {
    const files = readdirSync(join(root, "schema/generated")).map((name) => `schema/generated/${name}`)
    assert.deepStrictEqual(files.filter((path) => !(path in published)), [])
  })

  it("drifts visibly: a row changed by hand does not survive the next generation", () => {
    const changed = page.replace("| 4401 | authentication failed |", "| 4401 | something else |")
    assert.notStrictEqual(changed, page)
    assert.strictEqual(renderPage(changed), page)
  })

  it("has every block exactly where the page asks for it", () => {
    assert.throws(() => renderPage(page.replace("generated: states", "generated: countries")), /countries/u)
    assert.throws(() => renderPage(""), /no block for: client-messages/u)
  })
})

for (const level of ["plain", "control.v1"] as const) {
  describe(`the JSON Schema of ${level}`, () => {
    it("goes by a name of its own, and protocol.md says where it is", () => {
      assert.strictEqual(jsonSchema(level).$id, `urn:control:protocol:${level}`)
      const [path = ""] = Object.entries(published).find(([, text]) =>
        text.includes(`"$id": "${jsonSchema(level).$id}"`)
      ) ??
        []
      assert.include(page, `](${path})`)
    })

    it("has a definition for every reference", () => {
      const text = JSON.stringify(jsonSchema(level))
      const defined = new Set(Object.keys(jsonSchema(level).$defs))
      const referenced = [...text.matchAll(/"#\/\$defs\/([^"]+)"/gu)].map(([, name]) => name ?? "")
      assert.deepStrictEqual(referenced.filter((name) => !defined.has(name)), [])
      assert.isAbove(referenced.length, 0)
    })
  })
}

const all = new Set([
  ...AgentMessage.members,
  ...GatewayMessage.members,
  ...ControlMessage.members,
  ...AgentMessageV1.members,
  ...GatewayMessageV1.members,
  ...ControlMessageV1.members
])

describe("the examples", () => {
  for (const schema of all) {
    const { examples = [], identifier } = Schema.resolveAnnotations(schema) ?? {}
    it.effect(`of ${identifier} are such messages, with no field too many`, () =>
      Effect.gen(function*() {
        assert.isNotEmpty(examples)
        const decode = Schema.decodeUnknownEffect(schema, { onExcessProperty: "error" })
        for (const example of examples) yield* decode(example)
      }))
  }
})

describe("who is told", () => {
  const definitions = definitionsOf("control.v1")
  const isRead = (name: string, type: "agent" | "gateway") =>
    // Of a message for both, the gateways' example comes first, and is the agents' with one field more.
    !["Unknown", "Unreadable"].includes(readFrame(JSON.stringify(definitions[name]?.examples?.[0]), type)._tag)

  for (const name of members(definitions, "ControlMessage")) {
    const receivers = receiversOf(name)
    it(`${name}: who is told of it in protocol.md reads it`, () => {
      assert.deepStrictEqual(receivers.filter((type) => !isRead(name, type)), [])
    })
    const others = (["agent", "gateway"] as const).filter((type) => !receivers.includes(type))
    if (others.length > 0 && definitions[name]?.properties?.["revision"] !== undefined) {
      it(`${name}: to the others it is no part of a view`, () => {
        assert.deepStrictEqual(others.filter((type) => isRead(name, type)), [])
      })
    }
  }
})
