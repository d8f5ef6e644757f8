/** Published files: they match the schemas, and their examples and receivers are right. */
import { readFrame } from "#sdk/messages.ts"
import { AgentMessage, AgentMessageV1 } from "#schema/messagesFromAgents.ts"
import { ControlMessage } from "#schema/messagesFromControl.ts"
import { ControlMessageV1 } from "#schema/messagesFromControlV1.ts"
import { GatewayMessage, GatewayMessageV1 } from "#schema/messagesFromGateways.ts"
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
    it(`${path} matches the schemas (otherwise run npm run generate)`, () => {
      assert.strictEqual(read(path), text)
    })
  }

  it("schema/generated has no other files", () => {
    const files = readdirSync(join(root, "schema/generated")).map((name) => `schema/generated/${name}`)
    assert.deepStrictEqual(files.filter((path) => !(path in published)), [])
  })

  it("the next generation reverts a table row that was changed by hand", () => {
    const changed = page.replace("| 4401 | authentication failed |", "| 4401 | something else |")
    assert.notStrictEqual(changed, page)
    assert.strictEqual(renderPage(changed), page)
  })

  it("rendering a page with an unknown or missing block throws", () => {
    assert.throws(() => renderPage(page.replace("generated: states", "generated: countries")), /countries/u)
    assert.throws(() => renderPage(""), /no block for: client-messages/u)
  })
})

for (const level of ["plain", "control.v1"] as const) {
  describe(`the JSON Schema of ${level}`, () => {
    it("the schema has its level in its $id, and protocol.md links to its file", () => {
      assert.strictEqual(jsonSchema(level).$id, `urn:control:protocol:${level}`)
      const [path = ""] = Object.entries(published).find(([, text]) =>
        text.includes(`"$id": "${jsonSchema(level).$id}"`)
      ) ??
        []
      assert.include(page, `](${path})`)
    })

    it("the schema has a definition for every reference", () => {
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

describe("the examples of messages", () => {
  for (const schema of all) {
    const { examples = [], identifier } = Schema.resolveAnnotations(schema) ?? {}
    it.effect(`the examples of ${identifier} match its schema and have no extra field`, () =>
      Effect.gen(function*() {
        assert.isNotEmpty(examples)
        const decode = Schema.decodeUnknownEffect(schema, { onExcessProperty: "error" })
        for (const example of examples) yield* decode(example)
      }))
  }
})

describe("the receivers of Control's messages", () => {
  const definitions = definitionsOf("control.v1")
  const isRead = (name: string, type: "agent" | "gateway") =>
    // In a message for both types, the gateways' example comes first. It has one field more than the agents' example.
    !["Unknown", "Unreadable"].includes(readFrame(JSON.stringify(definitions[name]?.examples?.[0]), type)._tag)

  for (const name of members(definitions, "ControlMessage")) {
    const receivers = receiversOf(name)
    it(`${name}: every receiver that protocol.md names can decode it`, () => {
      assert.deepStrictEqual(receivers.filter((type) => !isRead(name, type)), [])
    })
    const others = (["agent", "gateway"] as const).filter((type) => !receivers.includes(type))
    if (others.length > 0 && definitions[name]?.properties?.["revision"] !== undefined) {
      it(`${name}: other clients do not accept it as a part of their view`, () => {
        assert.deepStrictEqual(others.filter((type) => isRead(name, type)), [])
      })
    }
  }
})
