/** Decisions about connections, with and without a PROXY header. */
import { decide } from "#ingress/proxyProtocol.ts"
import { v1Unknown, v2, v2Local, v2Raw } from "#support/proxyHeaders.ts"
import { assert, describe, it } from "@effect/vitest"

describe("decision about a connection", () => {
  const header = v2({ address: "203.0.113.7", port: 4_711 })
  const others = ["GET / HTTP/1.1\r\n", "\x16\x03\x01", "\r\nGET", "PROXIES", "X"].map((text) =>
    Buffer.from(text, "latin1")
  )

  it("a trusted proxy must send a header", () => {
    assert.deepInclude(decide(header, true), { _tag: "Pass" })
    for (const other of others) assert.strictEqual(decide(other, true)._tag, "Reject", String(other))
    assert.strictEqual(decide(v2Raw(0x21, 0x12, Buffer.alloc(12)), true)._tag, "Reject")
  })

  it("an untrusted address must not send a header", () => {
    for (const other of others) {
      assert.deepStrictEqual(decide(other, false), { _tag: "Pass", header: undefined }, String(other))
    }
    for (const sent of [header, v1Unknown, v2Local, v2Raw(0x21, 0x12, Buffer.alloc(12))]) {
      assert.strictEqual(decide(sent, false)._tag, "Reject")
    }
  })

  it("bytes that may become a header or something else are waited for", () => {
    for (const beginning of ["", "P", "PROXY", "\r\n", "\r\n\r\n\0\r\nQUIT"]) {
      for (const isTrusted of [true, false]) {
        assert.strictEqual(decide(Buffer.from(beginning, "latin1"), isTrusted)._tag, "Wait")
      }
    }
  })
})
