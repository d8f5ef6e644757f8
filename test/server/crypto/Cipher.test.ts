/** Encryption of stored values. */
import { randomBytes } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import { Redacted, Result, Schema } from "effect"
import { makeCipher, SecretLocation } from "#crypto/Cipher.ts"

const masterKey = () => Redacted.make(randomBytes(32).toString("base64"))
const cipher = makeCipher(masterKey())
const location: SecretLocation = { table: "agents", column: "wireguard_private_key", row: "a1b2" }

/** Returns the reason of a failed decryption; fails the test if the value is decrypted. */
const failureReason = (stored: string, at: SecretLocation = location): string => {
  const result = cipher.decrypt(stored, at)
  assert.isTrue(Result.isFailure(result), `decrypted ${stored}`)
  return Result.isFailure(result) ? result.failure.reason : ""
}

describe("Cipher", () => {
  it.prop(
    "any text can be decrypted at the location for which it was encrypted",
    { text: Schema.String, location: SecretLocation },
    ({ location, text }) => {
      const stored = cipher.encrypt(text, location)
      assert.match(stored, /^v1\.[0-9a-f]{16}\.[\w-]{16}\.[\w-]*\.[\w-]{22}$/u)
      assert.deepStrictEqual(cipher.decrypt(stored, location), Result.succeed(text.toWellFormed()))
    },
    { arbitrary: { runs: 300 } }
  )

  it("a stored value reveals only the length of the text", () => {
    const stored = cipher.encrypt("a private key", location)
    assert.notInclude(stored, Buffer.from("a private key").toString("base64url"))
    assert.notStrictEqual(cipher.encrypt("a private key", location), stored)
  })

  it.prop(
    "a cipher reads values of all its keys, writes with the first, and names an unknown key",
    { text: Schema.String, location: SecretLocation, size: Schema.Literals([0, 1, 2, 5]) },
    ({ location, size, text }) => {
      const [writing, ...others] = [masterKey(), ...Array.from({ length: size }, masterKey)]
      const ring = makeCipher(writing ?? masterKey(), others)
      const singles = others.map((key) => makeCipher(key))
      assert.deepStrictEqual(ring.readableIds, new Set([ring.keyId, ...singles.map(({ keyId }) => keyId)]))
      for (const single of singles) {
        assert.deepStrictEqual(
          ring.decrypt(single.encrypt(text, location), location),
          Result.succeed(text.toWellFormed())
        )
        const ours = single.decrypt(ring.encrypt(text, location), location)
        assert.strictEqual(Result.isFailure(ours) && ours.failure.reason, `written under key ${ring.keyId}`)
      }
      const unknown = ring.decrypt(cipher.encrypt(text, location), location)
      assert.strictEqual(Result.isFailure(unknown) && unknown.failure.reason, `written under key ${cipher.keyId}`)
    },
    { arbitrary: { runs: 100 } }
  )

  it("a value that is moved to another row, column or table is damaged", () => {
    const stored = cipher.encrypt("a private key", location)
    assert.strictEqual(failureReason(stored, { ...location, row: "c3d4" }), "damaged")
    assert.strictEqual(failureReason(stored, { ...location, column: "name" }), "damaged")
    assert.strictEqual(failureReason(stored, { ...location, table: "gateways" }), "damaged")
  })

  it("a value with any one bit flipped does not decrypt", () => {
    // Lengths 11 to 13 cover every number of unused bits at the end of base64.
    for (const text of ["", "eleven char", "twelve chars", "thirteen char"]) {
      const stored = Buffer.from(cipher.encrypt(text, location), "latin1")
      for (let bit = 0; bit < stored.length * 8; bit++) {
        const flipped = Buffer.from(stored)
        flipped.writeUInt8(flipped.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
        failureReason(flipped.toString("latin1"))
      }
    }
  })

  it("a truncated value is damaged", () => {
    const stored = cipher.encrypt("a private key", location)
    for (let length = 0; length < stored.length; length++) {
      assert.strictEqual(failureReason(stored.slice(0, length)), "damaged")
    }
  })

  it("the error for a value of another master key contains the id of that key", () => {
    const other = makeCipher(masterKey())
    assert.strictEqual(failureReason(other.encrypt("a private key", location)), `written under key ${other.keyId}`)
  })

  it("a value of another key does not decrypt even with a forged key id", () => {
    const other = makeCipher(masterKey())
    assert.strictEqual(
      failureReason(other.encrypt("a private key", location).replace(other.keyId, cipher.keyId)),
      "damaged"
    )
  })

  it("the error contains location and reason, and nothing of the value", () => {
    const result = cipher.decrypt("v1.a private key, never encrypted", location)
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
    "any text in place of a stored value fails to decrypt and throws nothing",
    { text: Schema.String },
    ({ text }) => {
      failureReason(text)
      failureReason(`v1.${cipher.keyId}.${text}.${text}.${text}`)
    }
  )

  it("nonces do not repeat in 10,000 values", () => {
    const nonces = Array.from({ length: 10_000 }, () => cipher.encrypt("", location).split(".")[2])
    assert.strictEqual(new Set(nonces).size, nonces.length)
  })

  it("the key id is 16 hex digits, depends only on the master key, and is no part of it", () => {
    const key = masterKey()
    const hex = Buffer.from(Redacted.value(key), "base64").toString("hex")
    assert.match(cipher.keyId, /^[0-9a-f]{16}$/u)
    assert.strictEqual(makeCipher(key).keyId, makeCipher(key).keyId)
    assert.notInclude(hex, makeCipher(key).keyId)
    assert.notStrictEqual(makeCipher(masterKey()).keyId, cipher.keyId)
  })

  it("a value of an earlier version still decrypts", () => {
    const known = makeCipher(Redacted.make(Buffer.alloc(32, 7).toString("base64")))
    assert.strictEqual(known.keyId, "4fadad6cd9c57784")
    assert.deepStrictEqual(
      known.decrypt("v1.4fadad6cd9c57784.CQkJCQkJCQkJCQkJ.RqX05teGoBXFQqBdnw.0k-5Lvea8ySEJBRQjw7d6Q", location),
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
