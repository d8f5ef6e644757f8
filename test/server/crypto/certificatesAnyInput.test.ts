/** `checkCertificate` with arbitrary input. */
import { createPrivateKey, X509Certificate } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import { type CertificateInput, CertificateRejected, checkCertificate } from "#crypto/checkCertificate.ts"
import { HostName } from "#schema/ids.ts"
import { issueCertificate } from "#support/certificates.ts"

const now = Date.parse("2026-03-01T12:00:00Z")
const good = issueCertificate({
  names: ["app.example.com"],
  notBefore: new Date("2026-02-01T00:00:00Z"),
  notAfter: new Date("2026-05-02T00:00:00Z")
})
const check = (changes: Partial<CertificateInput>, at = now) =>
  checkCertificate({ domain: HostName.make("app.example.com"), ...good, ...changes }, at)

const pem = (label: string, der: Buffer): string =>
  `-----BEGIN ${label}-----\n${der.toString("base64")}\n-----END ${label}-----\n`

describe("checkCertificate with arbitrary input", () => {
  const isResult = (result: ReturnType<typeof checkCertificate>): void =>
    assert.isTrue(Result.isSuccess(result) || result.failure instanceof CertificateRejected)
  const label = Schema.String.check(Schema.isPattern(/^[a-z]{1,9}$/u))
  const inputs = { certificate: Schema.String, privateKey: Schema.String, expiresAt: Schema.String, label }

  it.prop("arbitrary texts return a result and throw nothing", inputs, ({ label, ...texts }) => {
    const input = { ...texts, domain: HostName.make(`${label}.example.com`) }
    isResult(checkCertificate(input, now))
    isResult(check({ certificate: input.certificate }))
    isResult(check({ privateKey: input.privateKey }))
    isResult(check({ expiresAt: input.expiresAt }))
    isResult(check({ domain: input.domain }))
    isResult(check({ certificate: pem("CERTIFICATE", Buffer.from(input.certificate)) }))
    isResult(check({ privateKey: pem("PRIVATE KEY", Buffer.from(input.privateKey)) }))
  }, { arbitrary: { runs: 200 } })

  it.prop("any time of the clock returns a result", { at: Schema.Number }, ({ at }) => isResult(check({}, at)))

  it("a certificate or key with any byte replaced returns a result that does not quote the key", () => {
    const { raw } = new X509Certificate(good.certificate)
    const key = createPrivateKey(good.privateKey).export({ type: "pkcs8", format: "der" })
    const replaced = (der: Buffer, at: number, by: number) =>
      Buffer.concat([der.subarray(0, at), Buffer.of(by), der.subarray(at + 1)])
    for (const by of [0x00, 0x30, 0x80, 0xff]) {
      for (let at = 0; at < raw.length; at++) {
        isResult(check({ certificate: pem("CERTIFICATE", replaced(raw, at, by)) }))
      }
      for (let at = 0; at < key.length; at++) {
        const result = check({ privateKey: pem("PRIVATE KEY", replaced(key, at, by)) })
        isResult(result)
        assert.notInclude(JSON.stringify(result), key.toString("base64").slice(40, 60))
      }
    }
  })
})
