/** Chains of certificates: trust, equality and canonical text. */
import {
  canonicalPem,
  hasSameLeaf,
  indexRoots,
  isSelfSigned,
  leadsToRoot,
  readChain,
  systemRoots
} from "#crypto/certificateChain.ts"
import { issueCertificate } from "#support/certificates.ts"
import { assert, describe, it, vi } from "@effect/vitest"
import { X509Certificate } from "node:crypto"

const chainOf = (...pems: ReadonlyArray<string>) => readChain(pems.join("")) ?? assert.fail("unreadable")

const root = issueCertificate({ names: [], commonName: "root", isAuthority: true })
const middle = issueCertificate({
  names: [],
  commonName: "intermediate",
  issuer: { commonName: "root", privateKey: root.privateKey },
  isAuthority: true
})
const leaf = issueCertificate({
  names: ["app.example.com"],
  commonName: "app",
  issuer: { commonName: "intermediate", privateKey: middle.privateKey }
})
const roots = indexRoots([root.certificate])
const isTrusted = (...pems: ReadonlyArray<string>) => leadsToRoot(chainOf(...pems), roots, Date.now())

describe("trust in a chain", () => {
  it("leads over intermediates in any order to a root", () => {
    assert.isTrue(isTrusted(leaf.certificate, middle.certificate))
    assert.isTrue(isTrusted(leaf.certificate, root.certificate, middle.certificate))
  })

  it("ends without the intermediate, at a wrong signature, and at an issuer that is no authority", () => {
    assert.isFalse(isTrusted(leaf.certificate))
    const impostor = issueCertificate({ names: [], commonName: "intermediate", isAuthority: true })
    assert.isFalse(isTrusted(leaf.certificate, impostor.certificate))
    const client = issueCertificate({
      names: [],
      commonName: "intermediate",
      issuer: { commonName: "root", privateKey: root.privateKey }
    })
    const forged = issueCertificate({
      names: ["app.example.com"],
      issuer: { commonName: "intermediate", privateKey: client.privateKey }
    })
    assert.isFalse(isTrusted(forged.certificate, client.certificate))
  })

  it("ends at an expired authority", () => {
    const notBefore = new Date(Date.now() - 2_000_000)
    const notAfter = new Date(Date.now() - 1_000_000)
    const old = issueCertificate({
      names: [],
      commonName: "old",
      issuer: { commonName: "root", privateKey: root.privateKey },
      isAuthority: true,
      notBefore,
      notAfter
    })
    const issued = issueCertificate({
      names: ["a.example.com"],
      issuer: { commonName: "old", privateKey: old.privateKey }
    })
    assert.isFalse(isTrusted(issued.certificate, old.certificate))
  })

  it("takes few signature checks, however many authorities a forged chain has", () => {
    const authorities = Array.from(
      { length: 60 },
      () => issueCertificate({ names: [], commonName: "x", isAuthority: true })
    )
    const [first] = authorities
    assert.isDefined(first)
    const forged = issueCertificate({
      names: ["app.example.com"],
      issuer: { commonName: "x", privateKey: first.privateKey }
    })
    const verify = vi.spyOn(X509Certificate.prototype, "verify")
    try {
      assert.isFalse(isTrusted(forged.certificate, ...authorities.map(({ certificate }) => certificate)))
      assert.isAtMost(verify.mock.calls.length, 64)
    } finally {
      verify.mockRestore()
    }
  })

  it("does not come from the certificate itself, and the roots of this system are read", () => {
    const own = issueCertificate({ names: ["app.example.com"], isAuthority: true })
    assert.isFalse(isTrusted(own.certificate))
    assert.isTrue(isSelfSigned(chainOf(own.certificate)))
    assert.isFalse(isSelfSigned(chainOf(leaf.certificate)))
    assert.isAbove(systemRoots().size, 50)
  })
})

describe("equal chains", () => {
  it("have one text, whatever stands around the blocks", () => {
    const text = "subject: app\r\n" + leaf.certificate.replaceAll("\n", "\r\n") + "\n# end\n" + middle.certificate
    assert.strictEqual(canonicalPem(chainOf(text)), leaf.certificate + middle.certificate)
    assert.isTrue(hasSameLeaf(chainOf(text), chainOf(leaf.certificate)))
    assert.isFalse(hasSameLeaf(chainOf(middle.certificate), chainOf(leaf.certificate)))
    assert.isUndefined(readChain("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"))
    assert.isUndefined(readChain("no certificate"))
  })
})
