/** The watch itself: it finds a secret in every spelling, and nothing else. */
import { mintApiKey } from "#crypto/apiKeys.ts"
import { Canaries } from "./support/canaries.ts"
import { issueCertificate } from "./support/certificates.ts"
import { assert, describe, it } from "@effect/vitest"
import { Redacted } from "effect"
import { randomBytes } from "node:crypto"

describe("the watch over secrets", () => {
  const key = Redacted.value(mintApiKey("agent").apiKey)
  const secret = key.slice(-43)
  const { certificate, privateKey } = issueCertificate({ names: ["a.example.com"] })
  const master = randomBytes(32)
  const spellings: ReadonlyArray<readonly [string, string]> = [
    ["plain", `the key ${key} was refused`],
    ["its secret part alone", `"${secret}"`],
    ["a half of it", secret.slice(0, 22)],
    ["base64 at any place", Buffer.from(`{"k":"${key}"}`).toString("base64")],
    ["base64 of its bytes", Buffer.from(secret, "base64url").toString("base64")],
    ["base64url", Buffer.from(`xy${key}`).toString("base64url")],
    ["hex", Buffer.from(key).toString("hex")],
    ["hex in capitals", Buffer.from(secret, "base64url").toString("hex").toUpperCase()],
    ["a private key in PEM", `detail: ${privateKey}`],
    ["a private key in JSON", JSON.stringify({ privateKey })],
    ["a master key", master.toString("base64")],
    ["a master key in a URL", encodeURIComponent(master.toString("base64"))],
    ["a master key as hex", master.toString("hex")]
  ]
  const watching = (bound?: number) => {
    const watch = new Canaries(bound)
    watch.plant("API key", key)
    watch.plant("private key of a certificate", privateKey)
    watch.plant("master key", master.toString("base64"))
    return watch
  }
  for (const [name, spelling] of spellings) {
    it(`finds ${name}, wherever it stands`, () => {
      for (let before = 0; before < 9; before++) {
        const watch = watching()
        watch.collect("here", `${" ".repeat(before)}${spelling}`)
        assert.isNotEmpty(watch.leaks(), `${before} characters before it`)
      }
    })
  }

  it("finds nothing in a certificate, in another key, or in the key's public part, and quotes nothing of what it finds", () => {
    const watch = watching()
    watch.collect("here", JSON.stringify({ certificate, key: mintApiKey("agent").apiKey, id: key.slice(0, 20) }))
    watch.collect(
      "here",
      certificate + Redacted.value(mintApiKey("agent").apiKey) + issueCertificate({ names: [] }).privateKey
    )
    assert.deepStrictEqual(watch.leaks(), [])
    watch.collect("a log", key)
    assert.deepStrictEqual(watch.leaks(), [{ path: "a log", kind: "API key", spelling: "plain" }])
  })

  it("finds what was collected before it was known to be secret, and what is forgotten meanwhile", () => {
    const watch = new Canaries(1000)
    watch.collect("here", key)
    watch.plant("API key", key)
    for (let line = 0; line < 100; line++) watch.collect("there", "x".repeat(100))
    assert.deepStrictEqual(watch.leaks().map(({ path }) => path), ["here"])
  })

  it("lets a client have its own WireGuard key, and no other", () => {
    const watch = new Canaries()
    assert.isTrue(watch.plantOwned("WireGuard private key", "k1", "a"))
    assert.isTrue(watch.plantOwned("WireGuard private key", "k1", "a"))
    assert.isFalse(watch.plantOwned("WireGuard private key", "k1", "b"))
  })
})
