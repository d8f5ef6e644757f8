/** Parser of PROXY protocol headers, byte by byte. */
import { type ParsedHeader, parseHeader } from "#proxyProtocol/parseHeader.ts"
import { type Endpoint, serverFor, v1, v1Unknown, v2, v2Local, v2Raw } from "#support/proxyHeaders.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { SocketAddress } from "node:net"

const upTo = (maximum: number) => Schema.Int.check(Schema.isBetween({ minimum: 0, maximum }))
const ipv4 = Schema.TemplateLiteral([upTo(255), ".", upTo(255), ".", upTo(255), ".", upTo(255)])
const groups = Schema.Array(upTo(65_535)).check(Schema.isMinLength(8), Schema.isMaxLength(8))
/** Never an IPv4-mapped address, which is parsed as IPv4. */
const ipv6Of = (given: ReadonlyArray<number>) =>
  [0x2000, ...given.slice(1)].map((group) => group.toString(16)).join(":")
const anyBytes = Schema.Array(upTo(255))
const plain = (address: string) =>
  new SocketAddress({ address, family: address.includes(":") ? "ipv6" : "ipv4" }).address

/** Parses bytes that arrive in pieces, each of which ends at one of the cuts. */
const inPieces = (bytes: Buffer, cuts: ReadonlyArray<number>): ParsedHeader => {
  for (const end of [...cuts.map((cut) => cut % (bytes.length + 1)).toSorted((a, b) => a - b), bytes.length]) {
    const parsed = parseHeader(bytes.subarray(0, end))
    if (parsed._tag !== "Incomplete") return parsed
  }
  return { _tag: "Incomplete" }
}

const sourceOf = (bytes: Buffer): string | undefined => {
  const parsed = parseHeader(bytes)
  return parsed._tag === "Header" ? parsed.ends?.source.address : undefined
}

const headersOf = (client: Endpoint, tlvs: ReadonlyArray<number>) => [v1(client), v2(client, Buffer.from(tlvs))]

describe("PROXY header", () => {
  it.effect.prop(
    "a header contains the client address and its own length, for both versions and address families",
    { four: ipv4, six: groups, port: upTo(65_535), tlvs: anyBytes, rest: anyBytes, cuts: Schema.Array(upTo(5_000)) },
    ({ cuts, four, port, rest, six, tlvs }) =>
      Effect.sync(() => {
        for (const address of [four, ipv6Of(six)]) {
          for (const header of headersOf({ address, port }, tlvs)) {
            const ends = {
              source: { address: plain(address), port },
              destination: { address: plain(serverFor({ address, port }).address), port: 443 }
            }
            const expected = { _tag: "Header", length: header.length, ends } as const
            const bytes = Buffer.concat([header, Buffer.from(rest)])
            assert.deepStrictEqual(parseHeader(bytes), expected)
            assert.deepStrictEqual(inPieces(bytes, cuts), expected)
            for (let end = 0; end < header.length; end += 1) {
              assert.strictEqual(parseHeader(header.subarray(0, end))._tag, "Incomplete", `${end} bytes of the header`)
            }
          }
        }
      }),
    { arbitrary: { runs: 200 } }
  )

  it.effect.prop(
    "damaged headers and random bytes parse in the same way however they are split, and never throw",
    {
      four: ipv4,
      bytes: anyBytes,
      at: upTo(5_000),
      value: upTo(255),
      cuts: Schema.Array(upTo(5_000))
    },
    ({ at, bytes, cuts, four, value }) =>
      Effect.sync(() => {
        for (const header of [...headersOf({ address: four, port: 4_711 }, bytes), v1Unknown, v2Local]) {
          const damaged = Buffer.concat([header, Buffer.from(bytes)])
          damaged[at % damaged.length] = value
          const beginnings = [
            damaged,
            Buffer.from(bytes),
            Buffer.concat([header.subarray(0, at % 20), Buffer.from(bytes)])
          ]
          for (const any of beginnings) assert.deepStrictEqual(inPieces(any, cuts), parseHeader(any))
        }
      }),
    { arbitrary: { runs: 300 } }
  )

  it("a header of the proxy itself, or of a client that the proxy does not know, has no ends", () => {
    const nameless = (header: Buffer) =>
      assert.deepStrictEqual(parseHeader(Buffer.concat([header, Buffer.from("GET /")])), {
        _tag: "Header",
        length: header.length,
        ends: undefined
      })
    nameless(v1Unknown)
    nameless(Buffer.from(`PROXY UNKNOWN ${"ffff:".repeat(7)}ffff ${"ffff:".repeat(7)}ffff 65535 65535\r\n`))
    nameless(v2Local)
    // LOCAL ignores addresses and family; AF_UNSPEC and AF_UNIX contain no IP address.
    nameless(v2Raw(0x20, 0x11, Buffer.alloc(12)))
    nameless(v2Raw(0x20, 0xff, Buffer.alloc(3)))
    nameless(v2Raw(0x21, 0x00, Buffer.alloc(5)))
    nameless(v2Raw(0x21, 0x31, Buffer.alloc(216)))
  })

  it("the longest line, other notations and IPv4-mapped addresses are parsed", () => {
    const longest = `PROXY TCP6 ${"ffff:".repeat(7)}ffff ${"ffff:".repeat(7)}ffff 65535 65535\r\n`
    assert.strictEqual(longest.length, 104)
    assert.strictEqual(sourceOf(Buffer.from(longest)), `${"ffff:".repeat(7)}ffff`)
    assert.strictEqual(sourceOf(v1({ address: "2001:DB8:0:0::7", port: 1 })), "2001:db8::7")
    assert.strictEqual(sourceOf(v1({ address: "::ffff:203.0.113.7", port: 1 })), "203.0.113.7")
    assert.strictEqual(sourceOf(v2({ address: "::ffff:203.0.113.7", port: 1 })), "203.0.113.7")
  })

  const tooLong = `PROXY UNKNOWN ${"x".repeat(108 - 16)}\r\n`
  const malformed: Readonly<Record<string, Buffer>> = {
    "of an unknown family": Buffer.from("PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n"),
    "of UDP": v2Raw(0x21, 0x12, Buffer.alloc(12)),
    "of the other family": Buffer.from("PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n"),
    "with addresses of two families": Buffer.from("PROXY TCP6 2001:db8::1 192.0.2.2 1 2\r\n"),
    "with a zone": Buffer.from("PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n"),
    "with a name": Buffer.from("PROXY TCP4 localhost 192.0.2.2 1 2\r\n"),
    "with half an address": Buffer.from("PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n"),
    "with a zero before a number": Buffer.from("PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n"),
    "with a zero before a port": Buffer.from("PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n"),
    "with a port above 65535": Buffer.from("PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n"),
    "without ports": Buffer.from("PROXY TCP4 192.0.2.1 192.0.2.2\r\n"),
    "with two spaces": Buffer.from("PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n"),
    "with text after the ports": Buffer.from("PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n"),
    "without CR": Buffer.from("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n"),
    "with a CR inside": Buffer.from("PROXY TCP4 192.0.2.1\r192.0.2.2 1 2\r\n"),
    "of a word that begins like UNKNOWN": Buffer.from("PROXY UNKNOWNS\r\n"),
    "of 108 bytes": Buffer.from(tooLong),
    "of 107 bytes without an end": Buffer.from("PROXY ".padEnd(107, "x")),
    "of version 1 in binary form": v2Raw(0x11, 0x11, Buffer.alloc(12)),
    "of version 3": v2Raw(0x31, 0x11, Buffer.alloc(12)),
    "with an unknown command": v2Raw(0x22, 0x11, Buffer.alloc(12)),
    "that is shorter than its addresses": v2Raw(0x21, 0x11, Buffer.alloc(11)),
    "of IPv6 that is shorter than its addresses": v2Raw(0x21, 0x21, Buffer.alloc(35)),
    "above the maximum length": v2Raw(0x21, 0x11, Buffer.alloc(4_081))
  }
  for (const [name, bytes] of Object.entries(malformed)) {
    it(`a header ${name} is malformed`, () => assert.strictEqual(parseHeader(bytes)._tag, "Malformed"))
  }

  it("a header of maximum length is parsed, and a longer one is malformed at once", () => {
    assert.deepInclude(parseHeader(Buffer.from(tooLong.replace("x", ""))), { _tag: "Header", length: 107 })
    assert.deepInclude(parseHeader(v2Raw(0x21, 0x11, Buffer.alloc(4_080))), { _tag: "Header", length: 4_096 })
    assert.strictEqual(parseHeader(v2Raw(0x21, 0x11, Buffer.alloc(60_000)).subarray(0, 16))._tag, "Malformed")
  })
})
