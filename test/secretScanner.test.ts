/** The secret scanner of the tests: it finds secrets in every encoding and has no false positives. */
import { mintApiKey } from "#crypto/apiKeys.ts"
import { SecretScanner } from "./support/SecretScanner.ts"
import { issueCertificate } from "./support/certificates.ts"
import { assert, describe, it } from "@effect/vitest"
import { Redacted } from "effect"
import { randomBytes } from "node:crypto"

describe("the secret scanner", () => {
  const key = Redacted.value(mintApiKey("agent").apiKey)
  const secret = key.slice(-43)
  const { certificate, privateKey } = issueCertificate({ names: ["a.example.com"] })
  const master = randomBytes(32)
  const encodings: ReadonlyArray<readonly [string, string]> = [
    ["plain", `the key ${key} was rejected`],
    ["its secret part", `"${secret}"`],
    ["half of the secret part", secret.slice(0, 22)],
    ["base64 inside other text", Buffer.from(`{"k":"${key}"}`).toString("base64")],
    ["base64 of the decoded secret", Buffer.from(secret, "base64url").toString("base64")],
    ["base64url", Buffer.from(`xy${key}`).toString("base64url")],
    ["hex", Buffer.from(key).toString("hex")],
    ["hex in upper case", Buffer.from(secret, "base64url").toString("hex").toUpperCase()],
    ["a private key in PEM", `detail: ${privateKey}`],
    ["a private key in JSON", JSON.stringify({ privateKey })],
    ["a master key", master.toString("base64")],
    ["a master key in a URL", encodeURIComponent(master.toString("base64"))],
    ["a master key as hex", master.toString("hex")]
  ]
  const newScanner = (maxOutputLength?: number) => {
    const scanner = new SecretScanner(maxOutputLength)
    scanner.addSecret("API key", key)
    scanner.addSecret("private key of a certificate", privateKey)
    scanner.addSecret("master key", master.toString("base64"))
    return scanner
  }
  for (const [name, encoded] of encodings) {
    it(`the scanner finds ${name} at every position`, () => {
      for (let before = 0; before < 9; before++) {
        const scanner = newScanner()
        scanner.addOutput("here", `${" ".repeat(before)}${encoded}`)
        assert.isNotEmpty(scanner.findLeaks(), `${before} characters before it`)
      }
    })
  }

  it("the scanner finds nothing in certificates, other keys and public parts of keys, and never quotes a found secret", () => {
    const scanner = newScanner()
    scanner.addOutput("here", JSON.stringify({ certificate, key: mintApiKey("agent").apiKey, id: key.slice(0, 20) }))
    scanner.addOutput(
      "here",
      certificate + Redacted.value(mintApiKey("agent").apiKey) + issueCertificate({ names: [] }).privateKey
    )
    assert.deepStrictEqual(scanner.findLeaks(), [])
    scanner.addOutput("a log", key)
    assert.deepStrictEqual(scanner.findLeaks(), [{ source: "a log", kind: "API key", encoding: "plain" }])
  })

  it("the scanner finds secrets in output that was added before the secret, and in output that was dropped since", () => {
    const scanner = new SecretScanner(1000)
    scanner.addOutput("here", key)
    scanner.addSecret("API key", key)
    for (let line = 0; line < 100; line++) scanner.addOutput("there", "x".repeat(100))
    assert.deepStrictEqual(scanner.findLeaks().map(({ source: path }) => path), ["here"])
  })

  it("the scanner allows a client its own WireGuard key and no other", () => {
    const scanner = new SecretScanner()
    assert.isTrue(scanner.addOwnedSecret("WireGuard private key", "k1", "a"))
    assert.isTrue(scanner.addOwnedSecret("WireGuard private key", "k1", "a"))
    assert.isFalse(scanner.addOwnedSecret("WireGuard private key", "k1", "b"))
  })
})
