/** Minting, hashing and comparing API keys. */
import { createHash } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import { Redacted, Schema } from "effect"
import { constantTimeEqual, hashApiKey, mintApiKey } from "#crypto/apiKeys.ts"

describe("API keys", () => {
  it("a minted key consists of the prefix of its type, its public id, and 32 bytes of secret", () => {
    for (const [type, prefix] of [["agent", "ctl_agt"], ["gateway", "ctl_gw"], ["admin", "ctl_adm"]] as const) {
      const { apiKey, keyId } = mintApiKey(type)
      const [, id, secret = ""] =
        new RegExp(`^${prefix}_([A-Za-z0-9]{12})_([A-Za-z0-9_-]{43})$`, "u").exec(Redacted.value(apiKey)) ?? []
      assert.strictEqual(id, keyId)
      assert.strictEqual(Buffer.from(secret, "base64url").length, 32)
    }
  })

  it("printing a minted key does not reveal it", () => {
    const { apiKey } = mintApiKey("agent")
    assert.notInclude(`${String(apiKey)} ${JSON.stringify({ apiKey })}`, "ctl_")
  })

  it("no two minted keys share an id or a secret", () => {
    const minted = Array.from({ length: 10_000 }, () => mintApiKey("gateway"))
    assert.strictEqual(new Set(minted.map(({ keyId }) => keyId)).size, minted.length)
    assert.strictEqual(new Set(minted.map(({ apiKey }) => Redacted.value(apiKey).slice(-43))).size, minted.length)
  })

  it("every character of the alphabet is equally likely in an id", () => {
    const draws = 240_000
    const counts = new Map<string, number>()
    for (let key = 0; key < draws / 12; key++) {
      for (const character of mintApiKey("agent").keyId) counts.set(character, (counts.get(character) ?? 0) + 1)
    }
    assert.strictEqual(counts.size, 62)
    // A modulo of one byte would make eight characters 21 % too frequent. Chance alone makes 10 % once in 10^7 runs.
    for (const [character, count] of counts) assert.closeTo(count, draws / 62, draws / 620, character)
  })

  it("the hash is SHA-256 of the whole key in lower-case hex (FIPS 180-4 example \"abc\")", () => {
    assert.strictEqual(hashApiKey("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
  })

  it.prop(
    "any text, also a key of an older installation, has a hash of 64 hex digits",
    { key: Schema.String },
    ({ key }) => {
      assert.match(hashApiKey(key), /^[0-9a-f]{64}$/u)
      assert.strictEqual(hashApiKey(key), createHash("sha256").update(Buffer.from(key)).digest("hex"))
    }
  )

  it.prop(
    "two secrets are equal exactly if their texts are equal",
    { a: Schema.String, b: Schema.String },
    ({ a, b }) => {
      assert.isTrue(constantTimeEqual(a, a))
      assert.strictEqual(constantTimeEqual(a, b), a === b)
      assert.isFalse(constantTimeEqual(a, `${a}x`))
    }
  )

  it("different lone surrogates, which UTF-8 cannot distinguish, are different secrets", () => {
    assert.isFalse(constantTimeEqual("\ud800", "\ud801"))
  })
})
