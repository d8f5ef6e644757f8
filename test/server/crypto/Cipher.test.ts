import { randomBytes } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import { Redacted, Result, Schema } from "effect"
import { makeCipher, SecretLocation } from "#crypto/Cipher.ts"

const masterKey = () => Redacted.make(randomBytes(32).toString("base64"))
const cipher = makeCipher(masterKey())
const place: SecretLocation = { table: "agents", column: "wireguard_private_key", row: "a1b2" }

/** The reason of a refusal; a decrypted value is a failed test. */
const refusal = (stored: string, at: SecretLocation = place): string => {
  const result = cipher.decrypt(stored, at)
  assert.isTrue(Result.isFailure(result), `decrypted ${stored}`)
  return Result.isFailure(result) ? result.failure.reason : ""
}

describe("Cipher", () => {
  it.prop(
    "any text comes back from the place it was encrypted for",
    { text: Schema.String, place: SecretLocation },
    ({ place, text }) => {
      const stored = cipher.encrypt(text, place)
      assert.match(stored, /^v1\.[0-9a-f]{16}\.[\w-]{16}\.[\w-]*\.[\w-]{22}$/u)
      assert.deepStrictEqual(cipher.decrypt(stored, place), Result.succeed(text.toWellFormed()))
    },
    { arbitrary: { runs: 300 } }
  )

  it("a stored value holds nothing of the text but its length", () => {
    const stored = cipher.encrypt("a private key", place)
    assert.notInclude(stored, Buffer.from("a private key").toString("base64url"))
    assert.notStrictEqual(cipher.encrypt("a private key", place), stored)
  })

  it.prop(
    "a ring reads what any of its keys wrote, writes under the first, and refuses a key that is not in it by name",
    { text: Schema.String, place: SecretLocation, size: Schema.Literals([0, 1, 2, 5]) },
    ({ place, size, text }) => {
      const [writing, ...others] = [masterKey(), ...Array.from({ length: size }, masterKey)]
      const ring = makeCipher(writing ?? masterKey(), others)
      const singles = others.map((key) => makeCipher(key))
      assert.deepStrictEqual(ring.readableIds, new Set([ring.keyId, ...singles.map(({ keyId }) => keyId)]))
      for (const single of singles) {
        assert.deepStrictEqual(ring.decrypt(single.encrypt(text, place), place), Result.succeed(text.toWellFormed()))
        const ours = single.decrypt(ring.encrypt(text, place), place)
        assert.strictEqual(Result.isFailure(ours) && ours.failure.reason, `written under key ${ring.keyId}`)
      }
      const strange = ring.decrypt(cipher.encrypt(text, place), place)
      assert.strictEqual(Result.isFailure(strange) && strange.failure.reason, `written under key ${cipher.keyId}`)
    },
    { arbitrary: { runs: 100 } }
  )

  it("a value moved to another row, column or table is refused", () => {
    const stored = cipher.encrypt("a private key", place)
    assert.strictEqual(refusal(stored, { ...place, row: "c3d4" }), "damaged")
    assert.strictEqual(refusal(stored, { ...place, column: "name" }), "damaged")
    assert.strictEqual(refusal(stored, { ...place, table: "gateways" }), "damaged")
  })

  it("a value with any one bit flipped is refused", () => {
    // Lengths 11 to 13 bring every number of spare bits that base64 can have at its end.
    for (const text of ["", "eleven char", "twelve chars", "thirteen char"]) {
      const stored = Buffer.from(cipher.encrypt(text, place), "latin1")
      for (let bit = 0; bit < stored.length * 8; bit++) {
        const flipped = Buffer.from(stored)
        flipped.writeUInt8(flipped.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
        refusal(flipped.toString("latin1"))
      }
    }
  })

  it("a value that is cut short anywhere is refused", () => {
    const stored = cipher.encrypt("a private key", place)
    for (let length = 0; length < stored.length; length++) {
      assert.strictEqual(refusal(stored.slice(0, length)), "damaged")
    }
  })

  it("a value of another master key is refused with that key's id", () => {
    const other = makeCipher(masterKey())
    assert.strictEqual(refusal(other.encrypt("a private key", place)), `written under key ${other.keyId}`)
  })

  it("another key under the same id does not decrypt", () => {
    const other = makeCipher(masterKey())
    assert.strictEqual(refusal(other.encrypt("a private key", place).replace(other.keyId, cipher.keyId)), "damaged")
  })

  it("a refusal tells the place and the reason, and nothing of what is stored there", () => {
    const result = cipher.decrypt("v1.a private key, never encrypted", place)
    assert.isTrue(Result.isFailure(result))
    if (Result.isFailure(result)) {
      assert.strictEqual(result.failure.message, "cannot decrypt agents.wireguard_private_key of row \"a1b2\": damaged")
      assert.notInclude(
        `${String(result.failure)} ${JSON.stringify(result.failure)} ${result.failure.stack}`,
        "never encrypted"
      )
    }
  })

  it.prop(
    "any text in place of a stored value is refused, and nothing is thrown",
    { text: Schema.String },
    ({ text }) => {
      refusal(text)
      refusal(`v1.${cipher.keyId}.${text}.${text}.${text}`)
    }
  )

  it("nonces do not repeat in 10,000 values", () => {
    const nonces = Array.from({ length: 10_000 }, () => cipher.encrypt("", place).split(".")[2])
    assert.strictEqual(new Set(nonces).size, nonces.length)
  })

  it("the key id is 16 hex digits, the same for the same master key, and no part of it", () => {
    const key = masterKey()
    const hex = Buffer.from(Redacted.value(key), "base64").toString("hex")
    assert.match(cipher.keyId, /^[0-9a-f]{16}$/u)
    assert.strictEqual(makeCipher(key).keyId, makeCipher(key).keyId)
    assert.notInclude(hex, makeCipher(key).keyId)
    assert.notStrictEqual(makeCipher(masterKey()).keyId, cipher.keyId)
  })

  it("a value of a known key still decrypts: the format is stable", () => {
    const known = makeCipher(Redacted.make(Buffer.alloc(32, 7).toString("base64")))
    assert.strictEqual(known.keyId, "4fadad6cd9c57784")
    assert.deepStrictEqual(
      known.decrypt("v1.4fadad6cd9c57784.CQkJCQkJCQkJCQkJ.RqX05teGoBXFQqBdnw.0k-5Lvea8ySEJBRQjw7d6Q", place),
      Result.succeed("a private key")
    )
  })

  it("a master key that is not 32 bytes in base64 is a RangeError that does not quote it", () => {
    for (
      const text of [
        "",
        "secret",
        randomBytes(16).toString("base64"),
        randomBytes(33).toString("base64"),
        `${randomBytes(32).toString("base64")}\n`
      ]
    ) {
      assert.throws(() => makeCipher(Redacted.make(text)), RangeError, /^the master key must be 32 bytes in base64$/u)
    }
  })
})
