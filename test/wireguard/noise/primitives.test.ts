/** Known answers of the primitives under WireGuard's handshake. */
import { Blake2sMac } from "#wireguard/noise/blake2s.ts"
import { open, openWithLongNonce, seal, sealWithLongNonce } from "#wireguard/noise/aead.ts"
import { hash, hmac, kdf1, kdf2, kdf3 } from "#wireguard/noise/kdf.ts"
import { Timestamps } from "#wireguard/noise/tai64n.ts"
import { decodeKey, privateKeyFrom, publicKeyFrom, sharedSecret } from "#wireguard/noise/x25519.ts"
import { assert, describe, it } from "@effect/vitest"
import { createHmac, hkdfSync } from "node:crypto"

const hex = (text: string) => Buffer.from(text.replaceAll(" ", ""), "hex")
const counting = (length: number) => Buffer.from(Array.from({ length }, (_, i) => i & 255))

describe("BLAKE2s with a key and 16 bytes of output", () => {
  // Python: hashlib.blake2s(bytes(i & 255 for i in range(n)), key=bytes(range(32)), digest_size=16).hexdigest()
  it.each([
    [1, "13bacfb85b48a1223c595f8c1e7e82cb"],
    [60, "02a28f10e193b430df7112d2d98cf759"],
    [63, "ece382a8bd5018f1de5da44b72cea75b"],
    [64, "f1efa90d2547036841ecd3627fafbc36"],
    [65, "811ff8686d23a435ecbd0bdafcd27b1b"],
    [116, "072e94ffbfc684bd8ab2a1b9dade2fd5"],
    [128, "8c09f698d03eaf88abf69f8147865ef6"],
    [132, "6d19534b4c332741c8ddd79a9644de2d"],
    [192, "75e5d1a1e374a04a699247dad827b6cf"]
  ])("the MAC of %i counting bytes agrees with Python's hashlib", (length, expected) => {
    assert.strictEqual(new Blake2sMac(counting(32)).digest(counting(length), length).toString("hex"), expected)
  })

  it("a key of 16 bytes, and data longer than the part that is used, agree with Python's hashlib", () => {
    const mac = new Blake2sMac(counting(16))
    assert.strictEqual(mac.digest(counting(200), 132).toString("hex"), "b03d1196bdcfaad40f911db86b79ac7e")
    assert.strictEqual(mac.digest(counting(132), 132).toString("hex"), "b03d1196bdcfaad40f911db86b79ac7e")
  })
})

describe("ChaCha20-Poly1305 in place", () => {
  const key = Buffer.from(Array.from({ length: 32 }, (_, i) => 0x80 + i))

  it("an empty text and a text with associated data agree with OpenSSL", () => {
    const target = Buffer.alloc(80)
    seal(key, 0, 0, Buffer.alloc(0), 0, 0, target, 0)
    assert.strictEqual(target.toString("hex", 0, 16), "3ae5d3f2a376d317eaea5aef0215ba54")
    seal(key, 1, 2, Buffer.alloc(100, 0xff), 100, 100, Buffer.alloc(116), 0)
    seal(key, 0x04030201, 0x08070605, counting(40), 40, 48, target, 2, counting(32))
    assert.strictEqual(
      target.toString("hex", 2, 66),
      "e1b816fb13e071ff579069b735e1b12fdec2911e83cc657864fba8eba09e54a7e5c7874bceb3f1c02572df08a4478a5fa8aa7e06e3fbcb2e5ed05117933ea251"
    )
  })

  it("a sealed text is opened in place, and a text with any changed bit is left as it is", () => {
    const target = Buffer.alloc(16 + 48 + 16)
    seal(key, 7, 1, counting(40), 40, 48, target, 16)
    for (let bit = 16 * 8; bit < target.length * 8; bit += 1) {
      const changed = Buffer.from(target)
      changed[bit >> 3]! ^= 1 << (bit & 7)
      const before = Buffer.from(changed)
      assert.isFalse(open(key, 7, 1, changed, 16, changed.length), `bit ${bit}`)
      assert.deepStrictEqual(changed, before)
    }
    assert.isFalse(open(key, 8, 1, Buffer.from(target), 16, target.length))
    assert.isFalse(open(key, 7, 0, Buffer.from(target), 16, target.length))
    assert.isTrue(open(key, 7, 1, target, 16, target.length))
    assert.deepStrictEqual(target.subarray(16, 64), Buffer.concat([counting(40), Buffer.alloc(8)]))
  })

  it("a text with a nonce of 24 bytes agrees with @noble/ciphers, and no changed bit is accepted", () => {
    const sealed = sealWithLongNonce(key, counting(24), counting(16), counting(16))
    assert.strictEqual(sealed.toString("hex"), "60e3888c8da8f437d2a2732798d2e5e81bcbfe5e9faed5c85b384777b6b35e6b")
    assert.deepStrictEqual(openWithLongNonce(key, counting(24), sealed, counting(16)), counting(16))
    for (let bit = 0; bit < sealed.length * 8; bit += 1) {
      const changed = Buffer.from(sealed)
      changed[bit >> 3]! ^= 1 << (bit & 7)
      assert.isUndefined(openWithLongNonce(key, counting(24), changed, counting(16)), `bit ${bit}`)
    }
  })

  it("a text shorter than a tag is not opened", () => {
    assert.isFalse(open(key, 0, 0, Buffer.alloc(40), 30, 40))
  })
})

describe("key derivation", () => {
  const chainingKey = counting(32)

  it("HMAC agrees with node:crypto for keys and data of every length that the handshake uses", () => {
    for (const keyLength of [16, 32, 64]) {
      for (const dataLength of [0, 1, 32, 33, 64, 200]) {
        const expected = createHmac("blake2s256", counting(keyLength)).update(counting(dataLength)).digest()
        assert.deepStrictEqual(hmac(counting(keyLength), counting(dataLength)), expected)
      }
    }
  })

  it.each([0, 32])("the three derivations agree with HKDF over %i bytes of input", (length) => {
    const input = counting(length)
    const expected = Buffer.from(hkdfSync("blake2s256", input, chainingKey, "", 96))
    const thirds = [expected.subarray(0, 32), expected.subarray(32, 64), expected.subarray(64)]
    assert.deepStrictEqual([kdf1(chainingKey, input)], thirds.slice(0, 1))
    assert.deepStrictEqual([...kdf2(chainingKey, input)], thirds.slice(0, 2))
    assert.deepStrictEqual([...kdf3(chainingKey, input)], thirds)
  })

  it("BLAKE2s-256 of several parts agrees with RFC 7693, appendix B", () => {
    const expected = "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"
    assert.strictEqual(hash(Buffer.from("a"), Buffer.from("bc")).toString("hex"), expected)
  })
})

describe("X25519", () => {
  it("public key and shared secret agree with RFC 7748, section 6.1", () => {
    const alice = privateKeyFrom(hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))
    const bob = hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
    assert.strictEqual(
      alice.publicKey.toString("hex"),
      "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    )
    assert.strictEqual(
      sharedSecret(alice, publicKeyFrom(bob))?.toString("hex"),
      "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    )
  })

  it("a public key of low order has no shared secret", () => {
    assert.isUndefined(sharedSecret(privateKeyFrom(counting(32)), publicKeyFrom(Buffer.alloc(32))))
  })

  it.each(["", "AAAA", `${"A".repeat(43)}`, `${"A".repeat(42)}B=`, `${"A".repeat(43)}= `])(
    "the text %j is rejected as a key by a sentence",
    (text) =>
      assert.throws(() => decodeKey(text, "private key"), "cannot use the private key: it is not 32 bytes in base64")
  )
})

describe("TAI64N timestamps", () => {
  it("1,700,000,000.123 s after 1970 has the label of the TAI64N specification", () => {
    assert.strictEqual(new Timestamps().next(1_700_000_000_123).toString("hex"), "400000006553f10a0754d4c0")
  })

  it("timestamps rise strictly while the wall clock stands still, runs backwards or fails", () => {
    const timestamps = new Timestamps()
    let last = timestamps.next(1_700_000_000_000)
    for (const wall of [1_700_000_000_000, 1_699_999_999_999, 0, -5, Number.NaN, Infinity, 1_700_000_000_001]) {
      const next = timestamps.next(wall)
      assert.isAbove(Buffer.compare(next, last), 0, String(wall))
      last = next
    }
  })
})
