/** The AsyncAPI document, judged by its official parser. That every example is such a message is told in generated.test.ts. */
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
  it("is valid, and has both levels, at each what agents and gateways say and hear", async () => {
    const { document, found } = await parse(text)
    assert.deepStrictEqual(found, [
      // 3.0.0 is what generators and viewers read, and nothing that is newer is needed here.
      { code: "asyncapi-latest-version", path: "asyncapi", severity: DiagnosticSeverity.Information }
    ])
    const operations = document?.operations().all() ?? []
    const typesIn = (id: string) => [
      ...new Set(operations.find((operation) => operation.id() === id)?.messages().all().map((each) => each.name()))
    ]
    for (const [level, suffix] of [["plain", ""], ["control.v1", "V1"]] as const) {
      for (const [type, noun] of [["agent", "Agents"], ["gateway", "Gateways"]] as const) {
        const mayBeSaid = messageSenders(level).filter(([, by]) => by.includes(type)).map(([name]) => name)
        assert.sameMembers(typesIn(`receiveFrom${noun}${suffix}`), mayBeSaid)
      }
    }
    assert.strictEqual(operations.length, 8)
    assert.include(typesIn("sendToGatewaysV1"), "certificate_accepted")
    assert.notInclude(typesIn("sendToAgentsV1"), "certificate_accepted")
    assert.notInclude(typesIn("sendToGateways"), "drain")
    const bindings = document?.channels().get("control.v1")?.bindings().get("ws")?.value()
    assert.deepStrictEqual(bindings?.headers.required, ["Sec-WebSocket-Protocol"])
  })

  it("would be found out if it were not", async () => {
    const broken = text.replace("#/components/schemas/status\"", "#/components/schemas/nothing\"")
    const { found } = await parse(broken)
    assert.deepInclude(found, {
      code: "invalid-ref",
      path: "components.messages.status.payload.$ref",
      severity: DiagnosticSeverity.Error
    })
  })
})
