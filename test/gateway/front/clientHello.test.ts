/** Parser of ClientHellos: real ones, split ones, and mutated ones. */
import { maxClientHelloBytes, readClientHello } from "#gateway/front/clientHello.ts"
import { assert, describe, it } from "@effect/vitest"
import { clientHello, mutateHello, splitRecords } from "#support/clientHellos.ts"

const vector = (lengthBytes: number, ...content: ReadonlyArray<Buffer>): Buffer => {
  const bytes = Buffer.concat(content)
  const length = Buffer.alloc(lengthBytes)
  length.writeUIntBE(bytes.length, 0, lengthBytes)
  return Buffer.concat([length, bytes])
}
const extension = (type: number, content: Buffer) =>
  Buffer.concat([Buffer.of(type >> 8, type & 0xff), vector(2, content)])
const nameEntry = (name: string | Buffer) => Buffer.concat([Buffer.of(0), vector(2, Buffer.from(name))])
const serverName = (name: string | Buffer) => extension(0, vector(2, nameEntry(name)))
const alpn = (...names: ReadonlyArray<string>) =>
  extension(16, vector(2, ...names.map((name) => vector(1, Buffer.from(name)))))

/** A hello with these extensions in one record. */
const hello = (...extensions: ReadonlyArray<Buffer>): Buffer =>
  helloOf(Buffer.concat([
    Buffer.of(3, 3),
    Buffer.alloc(32, 7),
    vector(1, Buffer.alloc(32)),
    vector(2, Buffer.of(0x13, 0x01)),
    vector(1, Buffer.of(0)),
    vector(2, ...extensions)
  ]))
const helloOf = (body: Buffer): Buffer =>
  Buffer.concat([Buffer.of(22, 3, 1), vector(2, Buffer.concat([Buffer.of(1), vector(3, body)]))])

const withoutExtensions = helloOf(
  Buffer.concat([Buffer.of(3, 3), Buffer.alloc(32), Buffer.of(0), vector(2, Buffer.of(0, 47)), vector(1, Buffer.of(0))])
)

const nameOf = (bytes: Buffer) => {
  const parsed = readClientHello(bytes)
  return parsed._tag === "Hello" ? parsed.serverName : parsed._tag
}

describe("ClientHello", () => {
  const real = clientHello({ servername: "App.Example.com", ALPNProtocols: ["h2", "http/1.1"] })
  const expected = { _tag: "Hello", serverName: "app.example.com", alpn: ["h2", "http/1.1"] } as const

  it("the server name in lower case and the ALPN protocols of a real client are read", async () => {
    assert.deepStrictEqual(readClientHello(await real), expected)
  })

  it("clients of TLS 1.2, and of TLS 1.3 with a post-quantum key share, are read", async () => {
    const old = await clientHello({ servername: "a.example.com", maxVersion: "TLSv1.2" })
    assert.strictEqual(nameOf(old), "a.example.com")
    const quantum = await clientHello({ servername: "q.example.com", ecdhCurve: "X25519MLKEM768:X25519" })
    assert.isAbove(quantum.length, 1_400)
    assert.strictEqual(nameOf(quantum), "q.example.com")
  })

  it("every beginning of a hello is incomplete, and bytes after the hello are ignored", async () => {
    for (const bytes of [await real, splitRecords(await real, 100)]) {
      for (let end = 0; end < bytes.length; end += 1) {
        assert.strictEqual(readClientHello(bytes.subarray(0, end))._tag, "Incomplete", `${end} bytes`)
      }
      assert.deepStrictEqual(readClientHello(Buffer.concat([bytes, Buffer.alloc(70_000, 0xff)])), expected)
    }
  })

  it("a hello in records of any size is read", async () => {
    for (const size of [1, 2, 3, 4, 5, 37, 200]) {
      assert.deepStrictEqual(readClientHello(splitRecords(await real, size)), expected, `${size} bytes in a record`)
    }
  })

  it("a hello without extensions or without a server name has no name", () => {
    assert.deepStrictEqual(readClientHello(withoutExtensions), { _tag: "Hello", serverName: undefined, alpn: [] })
    assert.deepStrictEqual(readClientHello(hello(alpn("h2"))), { _tag: "Hello", serverName: undefined, alpn: ["h2"] })
  })

  it.each([
    "192.0.2.1",
    "2001:db8::1",
    "[::1]",
    "a_b.example.com",
    "-a.example.com",
    "a..example.com",
    "example.com.",
    "*.example.com",
    "a.example.com\0",
    "b\u00fccher.example",
    "example.0x7f",
    `${"a".repeat(64)}.com`,
    `${"a.".repeat(126)}com`,
    "../../etc",
    "a b.example.com",
    "constructor/__proto__"
  ])("%j is no server name", (name) => assert.strictEqual(nameOf(hello(serverName(name))), undefined))

  it.each(["localhost", "xn--bcher-kva.example", "a-b.EXAMPLE.com", "1.example.com", `${"a".repeat(63)}.com`])(
    "%j is a server name",
    (name) => assert.strictEqual(nameOf(hello(serverName(name))), name.toLowerCase())
  )

  const valid = hello(serverName("a.example.com"))
  const body = valid.subarray(9)
  const invalid: Readonly<Record<string, Buffer>> = {
    "of HTTP": Buffer.from("GET / HTTP/1.1\r\n"),
    "of SSH": Buffer.from("SSH-2.0-x\r\n"),
    "of SSL 2": Buffer.of(0x80, 0x2e, 1, 3, 1),
    "of an alert": Buffer.of(21, 3, 3, 0, 2, 1, 0),
    "of another version": Buffer.of(22, 4),
    "with an empty record": Buffer.of(22, 3, 1, 0, 0),
    "with a record above 16 KiB": Buffer.of(22, 3, 1, 0x40, 1),
    "of another handshake message": Buffer.of(22, 3, 1, 0, 9, 2),
    "that announces more than 16 KiB": Buffer.of(22, 3, 1, 0x40, 0, 1, 0, 0x40, 0),
    "with another record inside": Buffer.concat([
      splitRecords(valid, 20).subarray(0, 25),
      Buffer.of(20, 3, 3, 0, 1, 1)
    ]),
    "with two server names": hello(serverName("a.example.com"), serverName("b.example.com")),
    "with two names in a list": hello(extension(0, vector(2, nameEntry("a.example.com"), nameEntry("b.example.com")))),
    "with a name of another type": hello(
      extension(0, vector(2, Buffer.of(1), vector(2, Buffer.from("a.example.com"))))
    ),
    "with an empty name": hello(serverName("")),
    "with an empty list of names": hello(extension(0, vector(2))),
    "with bytes after the list of names": hello(
      extension(0, Buffer.concat([vector(2, nameEntry("a.com")), Buffer.of(0)]))
    ),
    "with two ALPN lists": hello(alpn("h2"), alpn("h2")),
    "with an empty ALPN protocol": hello(alpn("")),
    "with an empty ALPN list": hello(alpn()),
    "with an extension that is too long": hello(Buffer.of(0, 10, 0, 9, 1)),
    "with bytes after its extensions": helloOf(Buffer.concat([body, Buffer.of(0)])),
    "without cipher suites": helloOf(Buffer.concat([Buffer.alloc(34, 3), Buffer.of(0, 0, 0, 1, 0)])),
    "with half a cipher suite": helloOf(Buffer.concat([Buffer.alloc(34, 3), Buffer.of(0, 0, 3, 1, 1, 1, 1, 0)])),
    "without compression methods": helloOf(Buffer.concat([Buffer.alloc(34, 3), Buffer.of(0, 0, 2, 1, 1, 0)])),
    "with a session id of 33 bytes": helloOf(
      Buffer.concat([Buffer.alloc(34, 3), vector(1, Buffer.alloc(33)), body.subarray(67)])
    ),
    "that ends in its random": helloOf(Buffer.alloc(20, 3)),
    "without a body": helloOf(Buffer.alloc(0))
  }
  for (const [name, bytes] of Object.entries(invalid)) {
    it(`a ClientHello ${name} is invalid`, () => assert.strictEqual(readClientHello(bytes)._tag, "Invalid"))
  }

  it("a hello of 16 KiB is read, and a longer one is invalid whether it arrives at once or in pieces", () => {
    const padded = (length: number) => {
      const name = serverName("a.example.com")
      return hello(name, extension(21, Buffer.alloc(length - hello(name).length - 4)))
    }
    assert.strictEqual(nameOf(padded(maxClientHelloBytes)), "a.example.com")
    const tooLong = padded(maxClientHelloBytes + 1)
    assert.strictEqual(nameOf(tooLong), "Invalid")
    assert.strictEqual(nameOf(tooLong.subarray(0, maxClientHelloBytes - 1)), "Incomplete")
    assert.strictEqual(nameOf(tooLong.subarray(0, maxClientHelloBytes)), "Invalid")
    const tinyRecords = splitRecords(padded(6_000), 1)
    assert.strictEqual(nameOf(tinyRecords), "Invalid")
  })

  it("20,000 mutated hellos parse in the same way whole and in two pieces, and never throw", async () => {
    const hellos = [await real, hello(serverName("a.example.com"), alpn("h2")), withoutExtensions]
    const results = { Hello: 0, Incomplete: 0, Invalid: 0 }
    for (let index = 0; index < 20_000; index += 1) {
      const bytes = mutateHello(hellos, 1, index)
      const parsed = readClientHello(bytes)
      results[parsed._tag] += 1
      const early = readClientHello(bytes.subarray(0, index % (bytes.length + 1)))
      if (early._tag !== "Incomplete") assert.deepStrictEqual(early, parsed, `hello ${index}`)
    }
    for (const [tag, count] of Object.entries(results)) assert.isAbove(count, 1_000, tag)
  })
})
