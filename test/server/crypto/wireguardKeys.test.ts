/** Generation and derivation of WireGuard keys. */
import { spawnSync } from "node:child_process"
import { randomBytes } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import { Redacted, Schema } from "effect"
import { generateWireguardKeyPair, wireguardPublicKey } from "#crypto/wireguardKeys.ts"
import { WireguardKey } from "#schema/ids.ts"

const base64 = (hex: string): string => Buffer.from(hex, "hex").toString("base64")

const generated = Array.from({ length: 500 }, () => {
  const { privateKey, publicKey } = generateWireguardKeyPair()
  return { privateKey: Redacted.value(privateKey), publicKey }
})

const hasWg = spawnSync("wg", ["--version"]).status === 0

describe("WireGuard keys", () => {
  it("public keys equal those of RFC 7748, section 6.1", () => {
    assert.strictEqual(
      wireguardPublicKey(base64("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")),
      base64("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    )
    assert.strictEqual(
      wireguardPublicKey(base64("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")),
      base64("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
    )
  })

  it("the two keys of every generated pair are valid and belong together", () => {
    for (const { privateKey, publicKey } of generated) {
      assert.isTrue(Schema.is(WireguardKey)(privateKey))
      assert.isTrue(Schema.is(WireguardKey)(publicKey))
      assert.strictEqual(wireguardPublicKey(privateKey), publicKey)
    }
  })

  it("every generated private key is clamped (RFC 7748, section 5)", () => {
    for (const { privateKey } of generated) {
      const bytes = Buffer.from(privateKey, "base64")
      assert.strictEqual(bytes.readUInt8(0) & 0b0000_0111, 0)
      assert.strictEqual(bytes.readUInt8(31) & 0b1100_0000, 0b0100_0000)
    }
  })

  it("clamping leaves the other 251 bits random, each set in about half of the keys", () => {
    for (let bit = 3; bit < 254; bit++) {
      const set = generated.filter(({ privateKey }) =>
        (Buffer.from(privateKey, "base64").readUInt8(bit >> 3) >> (bit & 7) & 1) === 1
      )
      assert.closeTo(set.length, 250, 100, `bit ${bit}`)
    }
  })

  it("no two generated keys are the same", () => {
    assert.strictEqual(new Set(generated.flatMap((pair) => [pair.privateKey, pair.publicKey])).size, 1000)
  })

  it("printing a private key does not reveal it", () => {
    const { privateKey } = generateWireguardKeyPair()
    assert.notInclude(`${String(privateKey)} ${JSON.stringify({ privateKey })}`, Redacted.value(privateKey))
  })

  it.prop(
    "a text that is not a key throws a RangeError that does not quote it",
    { text: Schema.String },
    ({ text }) => {
      assert.throws(() => wireguardPublicKey(text), RangeError, /^a WireGuard key is 32 bytes in base64$/u)
    }
  )

  it("keys in another alphabet, with white space, or of another length are rejected", () => {
    const key = base64("fb".repeat(32))
    const others = [
      key.replaceAll("+", "-"),
      ` ${key}`,
      `${key}\n`,
      key.slice(0, -1),
      base64("fb".repeat(31)),
      base64("fb".repeat(33))
    ]
    for (const text of others) assert.throws(() => wireguardPublicKey(text), RangeError)
  })

  it.runIf(hasWg)("public keys equal those of `wg pubkey` (runs only where the wg tool is on the PATH)", () => {
    const unclamped = Array.from({ length: 10 }, () => randomBytes(32).toString("base64"))
    for (const privateKey of [...generated.slice(0, 40).map((pair) => pair.privateKey), ...unclamped]) {
      const { stdout } = spawnSync("wg", ["pubkey"], { input: privateKey, encoding: "utf8" })
      assert.strictEqual(wireguardPublicKey(privateKey), stdout.trim())
    }
  })
})
