/** Whether a certificate is fit to be stored and passed on to every gateway. */
import { createPrivateKey, type KeyObject, sign, verify, X509Certificate } from "node:crypto"
import { Result, Schema } from "effect"
import { type HostName, Timestamp } from "#schema/ids.ts"

/** The certificate is not fit for use. The reason is for people: a fixed text, which quotes nothing of the input. */
export class CertificateRejected extends Schema.TaggedError<CertificateRejected>()("CertificateRejected", {
  reason: Schema.String
}) {
  override get message(): string {
    return this.reason
  }
}

/**
 * `certificate`: PEM (RFC 7468), the certificate first, then its chain. `privateKey`: PEM, not encrypted. `expiresAt`:
 * RFC 3339.
 */
export interface CertificateInput {
  readonly domain: HostName
  readonly certificate: string
  readonly privateKey: string
  readonly expiresAt?: string | undefined
}

/**
 * Checks at `now` (milliseconds since 1970) that the PEM parses, that the private key belongs to the certificate, that
 * its names cover the domain (RFC 9525: subjectAltName only), and that it is in force and ends when `expiresAt` says. Gives
 * its end (RFC 3339, UTC). Who issued it is not checked: private authorities are allowed. Any input gets an answer; nothing is thrown.
 */
export const checkCertificate = (
  input: CertificateInput,
  now: number
): Result.Result<{ readonly expiresAt: string }, CertificateRejected> =>
  Result.gen(function*() {
    const leaf = yield* parseChain(input.certificate)
    yield* checkKey(leaf, yield* parseKey(input.privateKey))
    yield* checkNames(leaf, input.domain)
    const expiresAt = yield* checkTimes(leaf, input.expiresAt, now)
    return { expiresAt }
  })

const reasons = {
  certificateNotPem: "the certificate must be one or more PEM blocks of type CERTIFICATE and no other block",
  certificateUnreadable: "a block of the certificate is not a readable X.509 certificate",
  keyEncrypted: "the private key is encrypted; it must be given without a passphrase",
  keyUnreadable: "the private key is not a readable private key in PEM",
  keyUnusual: "the private key must be RSA of 2048 to 4096 bits, P-256, P-384, P-521 or Ed25519",
  keyForeign: "the private key does not belong to the first certificate",
  nameMissing: "the first certificate's subjectAltName does not cover the domain",
  expired: "the certificate has expired",
  notYetValid: "the certificate becomes valid more than a day from now",
  datesUnreadable: "the certificate's dates cannot be read",
  expiryUnreadable: "expiresAt is not a moment in RFC 3339",
  expiryDiffers: "expiresAt is not when the certificate ends"
} as const

type Checked<A> = Result.Result<A, CertificateRejected>

const reject = (reason: keyof typeof reasons) => new CertificateRejected({ reason: reasons[reason] })

const ensure = (condition: boolean, reason: keyof typeof reasons): Checked<void> =>
  condition ? Result.void : Result.fail(reject(reason))

/** OpenSSL's errors may quote what it read, so they are replaced, not wrapped. */
const attempt = <A>(reason: keyof typeof reasons, evaluate: () => A): Checked<A> =>
  Result.try({ try: evaluate, catch: () => reject(reason) })

/** Blocks begin and end on lines of their own: OpenSSL overlooks others, and gateways must read what is checked here. */
const certificateBlock =
  /(?<![^\n])-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----[ \t\r]*(?![^\n])/gu

/**
 * RFC 7468 lets explanatory text stand around the blocks. A block of another type, such as a key, must not be spread,
 * and PostgreSQL's text cannot hold NUL.
 */
function parseChain(pem: string): Checked<X509Certificate> {
  return Result.gen(function*() {
    const blocks = [...pem.matchAll(certificateBlock)]
    yield* ensure(!/\0|-----(?:BEGIN|END)/u.test(pem.replaceAll(certificateBlock, "")), "certificateNotPem")
    const chain = yield* Result.all(blocks.map(([block, body = ""]) => parseBlock(block, body)))
    return yield* Result.fromNullishOr(chain[0], () => reject("certificateNotPem"))
  })
}

/** OpenSSL takes trust settings of its own after a certificate; other TLS libraries refuse any bytes there. */
function parseBlock(block: string, body: string): Checked<X509Certificate> {
  return Result.gen(function*() {
    const certificate = yield* attempt("certificateUnreadable", () => new X509Certificate(block))
    yield* ensure(certificate.raw.equals(Buffer.from(body, "base64")), "certificateUnreadable")
    return certificate
  })
}

function parseKey(pem: string): Checked<KeyObject> {
  return Result.gen(function*() {
    yield* ensure(!/^(?:-----BEGIN ENCRYPTED PRIVATE KEY-----|Proc-Type: 4,ENCRYPTED)/mu.test(pem), "keyEncrypted")
    const key = yield* attempt("keyUnreadable", () => createPrivateKey({ key: pem, format: "pem" }))
    yield* ensure(yield* attempt("keyUnreadable", () => isUsual(key)), "keyUnusual")
    return key
  })
}

const curves = new Set<string | undefined>(["prime256v1", "secp384r1", "secp521r1"])

/**
 * The kinds that TLS servers use. The bounds on RSA also protect this process, which makes a signature with the key:
 * with a forged key of 65,536 bits that takes minutes. A real one (RFC 8017, appendix A.1.2) has four and a half times
 * its modulus.
 */
function isUsual(key: KeyObject): boolean {
  const { modulusLength: bits = 0, namedCurve } = key.asymmetricKeyDetails ?? {}
  if (key.asymmetricKeyType === "rsa") {
    return bits >= 2048 && bits <= 4096 && key.export({ type: "pkcs1", format: "der" }).length <= 5 * bits / 8
  }
  return key.asymmetricKeyType === "ed25519" || (key.asymmetricKeyType === "ec" && curves.has(namedCurve))
}

/**
 * `checkPrivateKey` compares the public halves only, and anyone can copy a public half from a published certificate
 * into a forged private key. So the key must also make a signature that the certificate verifies.
 */
function checkKey(leaf: X509Certificate, key: KeyObject): Checked<void> {
  const probe = Buffer.from("control checks that this key belongs to this certificate")
  const belongs = () => leaf.checkPrivateKey(key) && verify(null, probe, leaf.publicKey, sign(null, probe, key))
  return Result.flatMap(attempt("keyForeign", belongs), (ok) => ensure(ok, "keyForeign"))
}

/**
 * A wildcard in the certificate stands for one whole label, so a plain domain needs its own name or that one wildcard,
 * and a wildcard domain needs its very self.
 */
function checkNames(leaf: X509Certificate, domain: HostName): Checked<void> {
  const covers = () => leaf.checkHost(domain, { subject: "never", partialWildcards: false }) !== undefined
  return Result.flatMap(attempt("nameMissing", covers), (ok) => ensure(ok, "nameMissing"))
}

const dayMillis = 86_400_000
const isTimestamp = Schema.is(Timestamp)

/** Both ends belong to the validity (RFC 5280, section 4.1.2.5). The day of grace is for clocks that run behind. */
function checkTimes(leaf: X509Certificate, expected: string | undefined, now: number): Checked<string> {
  return Result.gen(function*() {
    const end = leaf.validToDate.getTime()
    yield* ensure(now <= end, "expired")
    yield* ensure(leaf.validFromDate.getTime() <= now + dayMillis, "notYetValid")
    if (expected !== undefined) {
      const instant = isTimestamp(expected) ? Date.parse(expected) : Number.NaN
      yield* ensure(!Number.isNaN(instant), "expiryUnreadable")
      yield* ensure(Math.floor(instant / 1000) === Math.floor(end / 1000), "expiryDiffers")
    }
    return yield* attempt("datesUnreadable", () => new Date(end).toISOString())
  })
}
