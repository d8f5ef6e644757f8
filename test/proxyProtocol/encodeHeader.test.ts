/** Encoder of PROXY headers: bytes of the specification, and what the parser reads. */
import { encodeHeader } from "#proxyProtocol/encodeHeader.ts"
import { parseHeader } from "#proxyProtocol/parseHeader.ts"
import { v1, v2 } from "#support/proxyHeaders.ts"
import { assert, describe, it } from "@effect/vitest"

const ipv4 = { source: { address: "203.0.113.7", port: 51_000 }, destination: { address: "198.51.100.2", port: 443 } }
const ipv6 = { source: { address: "2001:db8::7", port: 51_000 }, destination: { address: "2001:db8::2", port: 443 } }
const mixed = { source: ipv4.source, destination: ipv6.destination }

describe("encoded PROXY header", () => {
  it("version 1 is the line of the specification", () => {
    assert.strictEqual(String(encodeHeader("v1", ipv4)), "PROXY TCP4 203.0.113.7 198.51.100.2 51000 443\r\n")
    assert.strictEqual(String(encodeHeader("v1", ipv6)), "PROXY TCP6 2001:db8::7 2001:db8::2 51000 443\r\n")
  })

  it("version 2 has the signature, the command PROXY, the family, the length, addresses and ports", () => {
    assert.strictEqual(
      encodeHeader("v2", ipv4).toString("hex"),
      "0d0a0d0a000d0a515549540a2111000ccb007107c6336402c73801bb"
    )
    assert.strictEqual(
      encodeHeader("v2", ipv6).toString("hex"),
      "0d0a0d0a000d0a515549540a21210024" +
        "20010db800000000000000000000000720010db8000000000000000000000002c73801bb"
    )
  })

  it("an independent encoder makes the same bytes", () => {
    for (const { destination, source } of [ipv4, ipv6]) {
      assert.deepStrictEqual(encodeHeader("v1", { source, destination }), v1(source, destination))
      assert.deepStrictEqual(encodeHeader("v2", { source, destination }), v2(source, Buffer.alloc(0), destination))
    }
  })

  it("the parser reads the same ends, also those of two families", () => {
    for (const version of ["v1", "v2"] as const) {
      for (const ends of [ipv4, ipv6, mixed]) {
        const bytes = encodeHeader(version, ends)
        assert.deepStrictEqual(parseHeader(bytes), { _tag: "Header", length: bytes.length, ends })
      }
    }
  })
})
