/** Checks a certificate and its private key before they are stored and sent to gateways. */
import { createPrivateKey, type KeyObject, sign, verify, X509Certificate } from "node:crypto"
import { Redacted, Result, Schema } from "effect"
import { type HostName, Timestamp } from "#schema/ids.ts"
import { canonicalPem, type CertificateChain, makeChain } from "./certificateChain.ts"

/** The certificate is not usable. The reason is a fixed text for people that quotes nothing of the input. */
export class CertificateRejected extends Schema.TaggedError<CertificateRejected>()("CertificateRejected", {
  reason: Schema.String
}) {
  override get message(): string {
    return this.reason
  }
}

/** `certificate` is PEM (RFC 7468) with the leaf first, `privateKey` is unencrypted PEM, `expiresAt` is RFC 3339. */
export interface CertificateInput {
  readonly domain: HostName
  readonly certificate: string
  readonly privateKey: string
  readonly expiresAt?: string | undefined
}

/** A certificate that can be stored and served. */
export interface CheckedCertificate {
  readonly chain: CertificateChain
  /** PEM of the chain, without text around the blocks: equal chains have equal texts. */
  readonly certificate: string
  /** PEM (PKCS #8). */
  readonly privateKey: Redacted.Redacted
  /** RFC 3339, UTC. */
  readonly expiresAt: string
  /** RFC 3339, UTC. */
  readonly validFrom: string
}

/**
 * Checks at `now` (milliseconds since 1970) that the PEM parses, that the private key belongs to the certificate, that its
 * names cover the domain (RFC 9525, subjectAltName only), that it is valid, and that it expires at `expiresAt`. The
 * issuer is not checked, because private certificate authorities are allowed. Never throws.
 */
export const checkCertificate = (
  input: CertificateInput,
  now: number
): Result.Result<CheckedCertificate, CertificateRejected> =>
  Result.gen(function*() {
    const certificates = yield* parseChain(input.certificate)
    const [leaf] = certificates
    const key = yield* parseKey(input.privateKey)
    yield* checkKey(leaf, key)
    yield* checkNames(leaf, input.domain)
    const times = yield* checkTimes(leaf, input.expiresAt, now)
    const chain = makeChain(certificates)
    const privateKey = Redacted.make(key.export({ type: "pkcs8", format: "pem" }).toString())
    return { chain, certificate: canonicalPem(chain), privateKey, ...times }
  })

const reasons = {
  certificateNotPem: "the certificate must be one or more PEM blocks of type CERTIFICATE and no other block",
  certificateUnreadable: "a block of the certificate is not a readable X.509 certificate",
  keyEncrypted: "the private key is encrypted; it must be given without a passphrase",
  keyUnreadable: "the private key is not a readable private key in PEM",
  keyUnsupported: "the private key must be RSA of 2048 to 4096 bits, P-256, P-384, P-521 or Ed25519",
  keyMismatch: "the private key does not belong to the first certificate",
  nameMissing: "the first certificate's subjectAltName does not cover the domain",
  expired: "the certificate has expired",
  notYetValid: "the certificate becomes valid more than a day from now",
  datesUnreadable: "the certificate's dates cannot be read",
  expiryUnreadable: "expiresAt is not an RFC 3339 timestamp",
  expiryDiffers: "expiresAt differs from the expiry of the certificate"
} as const

type Checked<A> = Result.Result<A, CertificateRejected>

const reject = (reason: keyof typeof reasons) => new CertificateRejected({ reason: reasons[reason] })

const ensure = (condition: boolean, reason: keyof typeof reasons): Checked<void> =>
  condition ? Result.void : Result.fail(reject(reason))

/** Errors of OpenSSL may quote the input, so they are replaced by the fixed reason. */
const attempt = <A>(reason: keyof typeof reasons, evaluate: () => A): Checked<A> =>
  Result.try({ try: evaluate, catch: () => reject(reason) })

/**
 * Blocks begin and end on their own lines. OpenSSL skips other blocks, and gateways must read the blocks that are checked
 * here.
 */
const certificateBlock =
  /(?<![^\n])-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----[ \t\r]*(?![^\n])/gu

/**
 * RFC 7468 allows explanatory text around the blocks. A block of another type, such as a key, must not be published,
 * and PostgreSQL's text cannot hold NUL.
 */
function parseChain(pem: string): Checked<CertificateChain["certificates"]> {
  return Result.gen(function*() {
    const blocks = [...pem.matchAll(certificateBlock)]
    yield* ensure(!/\0|-----(?:BEGIN|END)/u.test(pem.replaceAll(certificateBlock, "")), "certificateNotPem")
    const chain = yield* Result.all(blocks.map(([block, body = ""]) => parseBlock(block, body)))
    const [leaf, ...rest] = chain
    if (leaf === undefined) return yield* Result.fail(reject("certificateNotPem"))
    return [leaf, ...rest] as const
  })
}

/** OpenSSL accepts its trust settings after a certificate. Other TLS libraries reject any bytes there. */
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
    yield* ensure(yield* attempt("keyUnreadable", () => isSupportedKey(key)), "keyUnsupported")
    return key
  })
}

const curves = new Set<string | undefined>(["prime256v1", "secp384r1", "secp521r1"])

/**
 * Whether TLS servers use this kind of key. The limits of RSA also protect this process, which signs with the key: with a
 * forged key of 65,536 bits a signature takes minutes. The encoding of a genuine key (RFC 8017, appendix A.1.2) is four and
 * a half times as long as its modulus.
 */
function isSupportedKey(key: KeyObject): boolean {
  const { modulusLength: bits = 0, namedCurve } = key.asymmetricKeyDetails ?? {}
  if (key.asymmetricKeyType === "rsa") {
    return bits >= 2048 && bits <= 4096 && key.export({ type: "pkcs1", format: "der" }).length <= 5 * bits / 8
  }
  return key.asymmetricKeyType === "ed25519" || (key.asymmetricKeyType === "ec" && curves.has(namedCurve))
}

/**
 * `checkPrivateKey` compares public halves only, and anyone can copy the public half of a published certificate into a
 * forged private key. Therefore the key must also sign a text, and the certificate must verify the signature.
 */
function checkKey(leaf: X509Certificate, key: KeyObject): Checked<void> {
  const probe = Buffer.from("control checks that this key belongs to this certificate")
  const belongs = () => leaf.checkPrivateKey(key) && verify(null, probe, leaf.publicKey, sign(null, probe, key))
  return Result.flatMap(attempt("keyMismatch", belongs), (ok) => ensure(ok, "keyMismatch"))
}

/**
 * A wildcard in the certificate stands for one whole label. A plain domain needs its own name or that wildcard, and a
 * wildcard domain needs exactly the same wildcard.
 */
function checkNames(leaf: X509Certificate, domain: HostName): Checked<void> {
  const covers = () => leaf.checkHost(domain, { subject: "never", partialWildcards: false }) !== undefined
  return Result.flatMap(attempt("nameMissing", covers), (ok) => ensure(ok, "nameMissing"))
}

const dayMillis = 86_400_000
const isTimestamp = Schema.is(Timestamp)

/** Both bounds are inclusive (RFC 5280, section 4.1.2.5). A day of grace at the start allows for clocks that run behind. */
function checkTimes(
  leaf: X509Certificate,
  expected: string | undefined,
  now: number
): Checked<Pick<CheckedCertificate, "expiresAt" | "validFrom">> {
  return Result.gen(function*() {
    const end = leaf.validToDate.getTime()
    yield* ensure(now <= end, "expired")
    yield* ensure(leaf.validFromDate.getTime() <= now + dayMillis, "notYetValid")
    if (expected !== undefined) {
      const instant = isTimestamp(expected) ? Date.parse(expected) : Number.NaN
      yield* ensure(!Number.isNaN(instant), "expiryUnreadable")
      yield* ensure(Math.floor(instant / 1000) === Math.floor(end / 1000), "expiryDiffers")
    }
    return yield* attempt("datesUnreadable", () => ({
      expiresAt: new Date(end).toISOString(),
      validFrom: leaf.validFromDate.toISOString()
    }))
  })
}
