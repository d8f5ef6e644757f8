/** The AsyncAPI document is valid according to its official parser. generated.test.ts checks the examples of the messages. */
import { asyncApi } from "#schema/asyncapi.ts"
import { messageSenders } from "#schema/protocol.ts"
import { DiagnosticSeverity, Parser } from "@asyncapi/parser"
import { assert, describe, it } from "@effect/vitest"

const parse = async (text: string) => {
  const { diagnostics, document } = await new Parser().parse(text)
  return { document, found: diagnostics.map(({ code, path, severity }) => ({ code, path: path.join("."), severity })) }
}

const text = JSON.stringify(asyncApi())

describe("the AsyncAPI document", () => {
  it("the document is valid and lists, for each level, the messages from and to agents and gateways", async () => {
    const { document, found } = await parse(text)
    assert.deepStrictEqual(found, [
      // Generators and viewers read 3.0.0, and the document needs nothing newer.
      { code: "asyncapi-latest-version", path: "asyncapi", severity: DiagnosticSeverity.Information }
    ])
    const operations = document?.operations().all() ?? []
    const typesIn = (id: string) => [
      ...new Set(operations.find((operation) => operation.id() === id)?.messages().all().map((each) => each.name()))
    ]
    for (const [level, suffix] of [["plain", ""], ["control.v1", "V1"]] as const) {
      for (const [type, noun] of [["agent", "Agents"], ["gateway", "Gateways"]] as const) {
        const allowed = messageSenders(level).filter(([, by]) => by.includes(type)).map(([name]) => name)
        assert.sameMembers(typesIn(`receiveFrom${noun}${suffix}`), allowed)
      }
    }
    assert.strictEqual(operations.length, 8)
    assert.include(typesIn("sendToGatewaysV1"), "certificate_accepted")
    assert.notInclude(typesIn("sendToAgentsV1"), "certificate_accepted")
    assert.notInclude(typesIn("sendToGateways"), "drain")
    const bindings = document?.channels().get("control.v1")?.bindings().get("ws")?.value()
    assert.deepStrictEqual(bindings?.headers.required, ["Sec-WebSocket-Protocol"])
  })

  it("the parser rejects a document with a broken reference", async () => {
    const broken = text.replace("#/components/schemas/status\"", "#/components/schemas/nothing\"")
    const { found } = await parse(broken)
    assert.deepInclude(found, {
      code: "invalid-ref",
      path: "components.messages.status.payload.$ref",
      severity: DiagnosticSeverity.Error
    })
  })
})
