/** Rules for replacing a stored certificate by one of a gateway. */
import { type CertificateChain, readChain } from "#crypto/certificateChain.ts"
import { decideRenewal, peculiaritiesOf } from "#services/renewal.ts"
import type { RenewalFacts } from "#store/CertificateStore.ts"
import { issueCertificate } from "#support/certificates.ts"
import { assert, describe, it } from "@effect/vitest"

const now = Date.parse("2026-06-01T00:00:00Z")
const day = 86_400_000

/** A certificate that became valid `age` days before `now` and expires `left` days after it. */
const pem = (age: number, left: number, commonName = "x") =>
  issueCertificate({
    names: ["app.example.com"],
    commonName,
    notBefore: new Date(now - age * day),
    notAfter: new Date(now + left * day)
  }).certificate

type Source = NonNullable<RenewalFacts["stored"]>["source"]

interface Case {
  readonly source: Source
  readonly stored: string
  readonly offered: string
  readonly isLimited?: boolean
  readonly trusted?: ReadonlyArray<string>
}

const verdictOf = ({ isLimited = false, offered, source, stored, trusted = [] }: Case) => {
  const chains = new Set(trusted.map((text) => chainOf(text).certificates[0].fingerprint256))
  return decideRenewal(
    chainOf(offered),
    { isLimited, stored: { certificate: stored, source } },
    (chain: CertificateChain) => chains.has(chain.certificates[0].fingerprint256),
    now
  )
}

const chainOf = (text: string) => readChain(text) ?? assert.fail("unreadable")

const fresh = pem(1, 89)
const due = pem(70, 20)
const newer = pem(0, 90)
const short = pem(0, 6)
const sources: ReadonlyArray<Source> = ["self", "gateway", "operator", "none"]

describe("a gateway's certificate", () => {
  it("is stored for a domain without one, and in place of an expired or unreadable one, also by a limited gateway", () => {
    assert.strictEqual(
      decideRenewal(chainOf(short), { isLimited: true, stored: undefined }, () => false, now),
      "stored"
    )
    for (const source of sources) {
      for (const stored of [pem(91, -1), "written by SQL"]) {
        assert.strictEqual(verdictOf({ source, stored, offered: short, isLimited: true }), "stored")
      }
    }
  })

  it("with the stored leaf changes nothing, unless its chain becomes a trusted one", () => {
    for (const source of sources) assert.strictEqual(verdictOf({ source, stored: fresh, offered: fresh }), "unchanged")
  })

  it("may expire earlier than an older one of the same source, or of a source that is gone", () => {
    for (const source of ["self", "none"] as const) {
      assert.strictEqual(verdictOf({ source, stored: fresh, offered: short, isLimited: true }), "stored")
      assert.strictEqual(verdictOf({ source, stored: newer, offered: pem(30, 30) }), "outlived")
    }
    for (const source of ["gateway", "operator"] as const) {
      assert.strictEqual(verdictOf({ source, stored: fresh, offered: short }), "outlived")
    }
  })

  it("without a trusted root never replaces one that has it, for any source and any validity", () => {
    const century = pem(0, 36_500)
    for (const source of sources) {
      assert.strictEqual(verdictOf({ source, stored: due, offered: century, trusted: [due] }), "untrusted")
    }
  })

  it("with a trusted root replaces one without", () => {
    for (const source of sources) {
      assert.strictEqual(verdictOf({ source, stored: pem(0, 390), offered: fresh, trusted: [fresh] }), "stored")
    }
  })

  it("of a limited gateway replaces another gateway's one only when a renewal is due and with a trusted root", () => {
    const offer = { offered: newer, isLimited: true }
    assert.strictEqual(verdictOf({ ...offer, source: "gateway", stored: fresh, trusted: [newer, fresh] }), "kept")
    assert.strictEqual(verdictOf({ ...offer, source: "gateway", stored: due }), "kept")
    assert.strictEqual(verdictOf({ ...offer, source: "gateway", stored: due, trusted: [newer, due] }), "stored")
    assert.strictEqual(verdictOf({ ...offer, source: "operator", stored: due, trusted: [newer, due] }), "kept")
  })

  it("of another unlimited gateway replaces one that expires earlier", () => {
    for (const source of ["gateway", "operator"] as const) {
      assert.strictEqual(verdictOf({ source, stored: fresh, offered: newer }), "stored")
    }
  })
})

describe("what an operator should know of a certificate", () => {
  it("is a self-signature, another issuer, and a far end", () => {
    assert.deepStrictEqual(peculiaritiesOf(chainOf(fresh), fresh, now), [])
    assert.deepStrictEqual(peculiaritiesOf(chainOf(fresh), undefined, now), ["self-signed"])
    assert.deepStrictEqual(peculiaritiesOf(chainOf(pem(0, 400, "y")), fresh, now), ["issuer-changed", "far-future"])
  })
})
