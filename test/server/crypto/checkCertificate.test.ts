/** Checks of a certificate and its private key. */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, X509Certificate } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import { Redacted, Result } from "effect"
import { type CertificateInput, CertificateRejected, checkCertificate } from "#crypto/checkCertificate.ts"
import { HostName } from "#schema/ids.ts"
import { issueCertificate } from "#support/certificates.ts"

const now = Date.parse("2026-03-01T12:00:00Z")
const notBefore = new Date("2026-02-01T00:00:00Z")
const notAfter = new Date("2026-05-02T00:00:00Z")
const issue = (...names: ReadonlyArray<string>) => issueCertificate({ names, notBefore, notAfter })

const domain = HostName.make("app.example.com")
const good = issue("app.example.com")
const other = issue("app.example.com")

const check = (changes: Partial<CertificateInput> = {}, at = now) =>
  checkCertificate({ domain, ...good, ...changes }, at)

const accepted = (changes: Partial<CertificateInput> = {}, at = now): void => {
  const result = check(changes, at)
  if (Result.isFailure(result)) assert.fail(result.failure.reason)
}

/** The reason must be a fixed text, so the complete text is compared. */
const rejected = (reason: string, changes: Partial<CertificateInput>, at = now): void => {
  const result = check(changes, at)
  if (Result.isSuccess(result)) assert.fail(`accepted, expected: ${reason}`)
  assert.instanceOf(result.failure, CertificateRejected)
  assert.strictEqual(result.failure.reason, reason)
  assert.strictEqual(result.failure.message, reason)
}

const notPem = "the certificate must be one or more PEM blocks of type CERTIFICATE and no other block"
const unreadable = "a block of the certificate is not a readable X.509 certificate"
const keyUnreadable = "the private key is not a readable private key in PEM"
const keyUnsupported = "the private key must be RSA of 2048 to 4096 bits, P-256, P-384, P-521 or Ed25519"
const keyMismatch = "the private key does not belong to the first certificate"
const nameMissing = "the first certificate's subjectAltName does not cover the domain"

const pem = (label: string, der: Buffer): string =>
  `-----BEGIN ${label}-----\n${der.toString("base64")}\n-----END ${label}-----\n`
const pkcs8 = (key: KeyObject): string => key.export({ type: "pkcs8", format: "pem" }).toString()

describe("accepted certificates", () => {
  it("a valid certificate with its key is accepted, and its expiry is returned", () => {
    const { certificate, expiresAt, privateKey, validFrom } = Result.getOrThrow(check())
    assert.strictEqual(expiresAt, "2026-05-02T00:00:00.000Z")
    assert.strictEqual(validFrom, "2026-02-01T00:00:00.000Z")
    assert.strictEqual(certificate, good.certificate)
    assert.strictEqual(Redacted.value(privateKey), good.privateKey)
  })

  it("texts around the same certificate and key do not make another certificate", () => {
    const texts = [
      "# renewed by x\n" + good.certificate,
      good.certificate.replaceAll("\n", "\r\n"),
      good.certificate + "\n\n"
    ]
    for (const certificate of texts) {
      assert.strictEqual(Result.getOrThrow(check({ certificate })).certificate, good.certificate)
    }
    const key = good.privateKey.replaceAll("\n", "\r\n")
    assert.strictEqual(Redacted.value(Result.getOrThrow(check({ privateKey: key })).privateKey), good.privateKey)
  })

  it("an RSA key is accepted in PKCS #8 and PKCS #1", () => {
    const rsa = issueCertificate({ names: [domain], notBefore, notAfter, key: "rsa" })
    accepted(rsa)
    accepted({
      ...rsa,
      privateKey: createPrivateKey(rsa.privateKey).export({ type: "pkcs1", format: "pem" }).toString()
    })
  })

  it("an EC key in SEC 1 after its parameters, as `openssl ecparam -genkey` writes it, is accepted", () => {
    const sec1 = createPrivateKey(good.privateKey).export({ type: "sec1", format: "pem" }).toString()
    accepted({ privateKey: `-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n${sec1}` })
  })

  it("a chain is accepted, and only its first certificate is checked against key, names and dates", () => {
    const old = issueCertificate({ names: ["ca.example.net"], notBefore: new Date(0), notAfter: new Date(1000) })
    accepted({ certificate: good.certificate + old.certificate })
    rejected(keyMismatch, { certificate: old.certificate + good.certificate })
  })

  it("explanatory text, Windows line ends and a missing last line end are accepted (RFC 7468)", () => {
    accepted({ certificate: `subject=app\n\n${good.certificate}issuer=ca\n${other.certificate}end\n` })
    accepted({
      certificate: good.certificate.replaceAll("\n", "\r\n"),
      privateKey: good.privateKey.replaceAll("\n", "\r\n")
    })
    accepted({ certificate: good.certificate.trim(), privateKey: good.privateKey.trim() })
  })
})

describe("PEM of the certificate", () => {
  it("a text without a PEM block is rejected", () => {
    rejected(notPem, { certificate: "" })
    rejected(notPem, { certificate: "no certificate" })
    rejected(notPem, { certificate: new X509Certificate(good.certificate).raw.toString("base64") })
  })

  it("a block of another type, such as a private key, is rejected because it would reach every gateway", () => {
    rejected(notPem, { certificate: good.certificate + good.privateKey })
    rejected(notPem, { certificate: good.privateKey + good.certificate })
    rejected(notPem, { certificate: good.certificate.replaceAll("CERTIFICATE", "TRUSTED CERTIFICATE") })
  })

  it("a block that is truncated, nested, or not on separate lines is rejected", () => {
    rejected(notPem, { certificate: good.certificate.slice(0, -10) })
    rejected(notPem, { certificate: `-----BEGIN CERTIFICATE-----\n${good.certificate}` })
    rejected(notPem, { certificate: `x${good.certificate}` })
    rejected(notPem, { certificate: good.certificate + good.certificate.trim() + good.certificate })
    rejected(notPem, { certificate: `\u2028${good.certificate}` })
  })

  it("a text with NUL, which PostgreSQL cannot store, is rejected", () =>
    rejected(notPem, { certificate: `${good.certificate}\0` }))

  it("a block that is not exactly one certificate is rejected", () => {
    const { raw } = new X509Certificate(good.certificate)
    rejected(unreadable, { certificate: pem("CERTIFICATE", Buffer.from("no certificate")) })
    rejected(unreadable, { certificate: good.certificate + pem("CERTIFICATE", raw.subarray(0, -1)) })
    rejected(unreadable, { certificate: good.certificate + pem("CERTIFICATE", Buffer.concat([raw, Buffer.of(0)])) })
    const trustSettings = Buffer.from("3000", "hex")
    rejected(unreadable, { certificate: pem("CERTIFICATE", Buffer.concat([raw, trustSettings])) })
  })
})

describe("private key", () => {
  it("an unreadable private key is rejected", () => {
    rejected(keyUnreadable, { privateKey: "" })
    rejected(keyUnreadable, { privateKey: good.certificate })
    rejected(keyUnreadable, { privateKey: pem("PRIVATE KEY", Buffer.from("no key")) })
    rejected(keyUnreadable, {
      privateKey: createPublicKey(good.privateKey).export({ type: "spki", format: "pem" }).toString()
    })
  })

  it("an encrypted private key is rejected in both PEM forms", () => {
    const key = createPrivateKey(good.privateKey)
    const cipher = { cipher: "aes-256-cbc", passphrase: "secret", format: "pem" } as const
    const reason = "the private key is encrypted; it must be given without a passphrase"
    rejected(reason, { privateKey: key.export({ type: "pkcs8", ...cipher }).toString() })
    rejected(reason, { privateKey: key.export({ type: "sec1", ...cipher }).toString() })
  })

  it("the private key of another certificate is rejected", () =>
    rejected(keyMismatch, { privateKey: other.privateKey }))

  it("a key forged from the certificate's public EC key and another private number is rejected", () => {
    const [mine, theirs] = [other, good].map(({ privateKey }) => createPrivateKey(privateKey))
    assert.isDefined(mine)
    assert.isDefined(theirs)
    const scalar = (key: KeyObject) => Buffer.from(key.export({ format: "jwk" }).d ?? "", "base64url")
    const forged = theirs.export({ type: "sec1", format: "der" })
    scalar(mine).copy(forged, forged.indexOf(scalar(theirs)))
    const privateKey = pem("EC PRIVATE KEY", forged)
    assert.isTrue(
      new X509Certificate(good.certificate).checkPrivateKey(createPrivateKey(privateKey)),
      "public halves are equal"
    )
    rejected(keyMismatch, { privateKey })
  })

  it("a key forged from the certificate's public RSA key and other private numbers is rejected", () => {
    const rsa = issueCertificate({ names: [domain], notBefore, notAfter, key: "rsa" })
    const { e = "", n = "" } = createPrivateKey(rsa.privateKey).export({ format: "jwk" })
    const mine = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ format: "jwk" })
    const forged = createPrivateKey({ key: { ...mine, e, n }, format: "jwk" })
    assert.isTrue(new X509Certificate(rsa.certificate).checkPrivateKey(forged), "public halves are equal")
    rejected(keyMismatch, { ...rsa, privateKey: pkcs8(forged) })
  })

  it("an unsupported or short private key is rejected", () => {
    rejected(keyUnsupported, { privateKey: pkcs8(generateKeyPairSync("rsa", { modulusLength: 1024 }).privateKey) })
    rejected(keyUnsupported, { privateKey: pkcs8(generateKeyPairSync("ec", { namedCurve: "secp256k1" }).privateKey) })
    rejected(keyUnsupported, { privateKey: pkcs8(generateKeyPairSync("x25519").privateKey) })
  })

  it("a forged key whose signature would take minutes is rejected before it is used", () => {
    const number = (size: number) => Buffer.alloc(size, 0xff).toString("base64url")
    const jwk = createPrivateKey(issueCertificate({ names: [], key: "rsa" }).privateKey).export({ format: "jwk" })
    const longModulus = { ...jwk, n: number(8_000) }
    const longParts = { ...jwk, p: number(170), q: number(170), dp: number(170), dq: number(170), qi: number(170) }
    for (const key of [longModulus, longParts]) {
      rejected(keyUnsupported, { privateKey: pkcs8(createPrivateKey({ key, format: "jwk" })) })
    }
  })
})

describe("names", () => {
  const covers = (name: string, host: string): boolean =>
    Result.isSuccess(check({ domain: HostName.make(host), ...issue(name) }))

  it("an exact name covers only its domain, in upper and lower case", () => {
    assert.isTrue(covers("app.example.com", "app.example.com"))
    assert.isTrue(covers("App.EXAMPLE.com", "app.example.com"))
    assert.isFalse(covers("app.example.com", "www.example.com"))
    assert.isFalse(covers("app.example.com", "x.app.example.com"))
    assert.isFalse(covers("app.example.com", "example.com"))
  })

  it("a wildcard covers exactly one complete label", () => {
    assert.isTrue(covers("*.example.com", "app.example.com"))
    assert.isTrue(covers("*.example.com", "xn--bcher-kva.example.com"))
    assert.isFalse(covers("*.example.com", "a.b.example.com"))
    assert.isFalse(covers("*.example.com", "example.com"))
    assert.isFalse(covers("a*.example.com", "app.example.com"))
    assert.isFalse(covers("*", "localhost"))
    assert.isFalse(covers("*.*.com", "app.example.com"))
  })

  it("a wildcard domain is covered only by the same wildcard", () => {
    assert.isTrue(covers("*.example.com", "*.example.com"))
    assert.isTrue(covers("*.Example.com", "*.example.com"))
    assert.isFalse(covers("app.example.com", "*.example.com"))
    assert.isFalse(covers("*.com", "*.example.com"))
    assert.isFalse(covers("*.example.com", "*.app.example.com"))
  })

  it("any one of several names is enough", () => accepted(issue("www.example.com", "app.example.com")))

  it("the common name is ignored, with and without subjectAltName", () => {
    const dates = { notBefore, notAfter, commonName: "app.example.com" }
    rejected(nameMissing, issueCertificate({ ...dates, names: [] }))
    rejected(nameMissing, issueCertificate({ ...dates, names: ["www.example.com"] }))
  })

  it("a name with NUL does not cover the part before NUL", () => {
    rejected(nameMissing, issue("app.example.com\0.attacker.example"))
    rejected(nameMissing, issue("a.example, DNS:app.example.com"))
  })
})

describe("dates", () => {
  it("a certificate is valid until the end of its last second", () => {
    accepted({}, notAfter.getTime())
    rejected("the certificate has expired", {}, notAfter.getTime() + 1)
  })

  it("a certificate may become valid up to a day from now", () => {
    accepted({}, notBefore.getTime() - 86_400_000)
    rejected("the certificate becomes valid more than a day from now", {}, notBefore.getTime() - 86_400_001)
  })

  it("dates after 2049, which have another encoding, are read", () => {
    const certificate = issueCertificate({ names: [domain], notBefore, notAfter: new Date("9999-12-31T23:59:59Z") })
    accepted(certificate)
    assert.strictEqual(certificate.expiresAt, "9999-12-31T23:59:59.000Z")
  })

  it("expiresAt is optional, and may use another time zone or a fraction of the second", () => {
    accepted({ expiresAt: undefined })
    for (
      const expiresAt of [
        "2026-05-02T00:00:00Z",
        "2026-05-02T02:00:00+02:00",
        "2026-05-02T00:00:00.999Z",
        "2026-05-02T00:00:00.123456789Z"
      ]
    ) {
      accepted({ expiresAt })
    }
  })

  it("expiresAt at any other second is rejected", () => {
    for (const expiresAt of ["2026-05-02T00:00:01Z", "2026-05-01T23:59:59.999Z", "2026-05-02T00:00:00+02:00"]) {
      rejected("expiresAt differs from the expiry of the certificate", { expiresAt })
    }
  })

  it("expiresAt in another format than RFC 3339 is rejected", () => {
    for (
      const expiresAt of [
        "",
        "soon",
        "2026-05-02",
        "2026-05-02T00:00:00",
        "Sat, 02 May 2026 00:00:00 GMT",
        "2026-13-45T00:00:00Z"
      ]
    ) {
      rejected("expiresAt is not an RFC 3339 timestamp", { expiresAt })
    }
  })
})
