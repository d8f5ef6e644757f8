/**
 * Self-signed certificates made on the spot, for tests and the demo: no file of them can expire, and no openssl is
 * needed.
 */
import { canaries } from "./canaries.ts"
import { generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto"

export interface CertificateOptions {
  /** The DNS names of subjectAltName; none leaves the extension out. */
  readonly names: ReadonlyArray<string>
  /** An hour ago by default. */
  readonly notBefore?: Date
  /** In 90 days by default. */
  readonly notAfter?: Date
  /** `ec` (P-256, the default) is made in a millisecond, `rsa` (2048 bits) in a few hundred. */
  readonly key?: "ec" | "rsa"
  /** The subject's and issuer's common name, at most 64 characters. */
  readonly commonName?: string
}

export interface IssuedCertificate {
  /** PEM. */
  readonly certificate: string
  /** PEM, PKCS #8. */
  readonly privateKey: string
  /** The certificate's end in RFC 3339, to the second that certificates can express. */
  readonly expiresAt: string
}

/** An X.509 v3 certificate (RFC 5280) signed with its own new key. */
export const issueCertificate = (options: CertificateOptions): IssuedCertificate => {
  const { publicKey, privateKey } = options.key === "rsa"
    ? generateKeyPairSync("rsa", { modulusLength: 2048 })
    : generateKeyPairSync("ec", { namedCurve: "P-256" })
  const notBefore = options.notBefore ?? new Date(Date.now() - hourMillis)
  const notAfter = toSecond(options.notAfter ?? new Date(Date.now() + 90 * 24 * hourMillis))
  const algorithm = signatureAlgorithms[options.key ?? "ec"]
  const name = distinguishedName(options.commonName ?? "self-signed by Control's tests")
  const body = sequence(
    explicit(0, integer(Buffer.of(2))),
    integer(serialNumber()),
    algorithm,
    name,
    sequence(time(notBefore), time(notAfter)),
    name,
    subjectPublicKey(publicKey),
    ...(options.names.length === 0 ? [] : [explicit(3, sequence(subjectAltName(options.names)))])
  )
  const certificate = sequence(body, algorithm, bitString(sign("sha256", body, privateKey)))
  const secret = privateKey.export({ type: "pkcs8", format: "pem" }).toString()
  canaries.plant("private key of a certificate", secret)
  return {
    certificate: pem("CERTIFICATE", certificate),
    privateKey: secret,
    expiresAt: notAfter.toISOString()
  }
}

const hourMillis = 3_600_000

const toSecond = (date: Date): Date => new Date(Math.floor(date.getTime() / 1000) * 1000)

/** Lines of 64 characters, as RFC 7468 asks. */
const pem = (label: string, der: Buffer): string => {
  const lines = der.toString("base64").replaceAll(/.{1,64}/gu, "$&\n")
  return `-----BEGIN ${label}-----\n${lines}-----END ${label}-----\n`
}

/** DER (X.690): a tag, the length of the content, the content. */
const tagged = (tag: number, ...content: ReadonlyArray<Buffer>): Buffer => {
  const body = Buffer.concat(content)
  return Buffer.concat([Buffer.of(tag), length(body.length), body])
}

const length = (size: number): Buffer => {
  if (size < 0x80) return Buffer.of(size)
  return size < 0x100 ? Buffer.of(0x81, size) : Buffer.of(0x82, size >> 8, size & 0xff)
}

const sequence = (...content: ReadonlyArray<Buffer>): Buffer => tagged(0x30, ...content)
const explicit = (number: number, content: Buffer): Buffer => tagged(0xa0 + number, content)
const integer = (bytes: Buffer): Buffer => tagged(0x02, bytes)
const octetString = (content: Buffer): Buffer => tagged(0x04, content)
const bitString = (bytes: Buffer): Buffer => tagged(0x03, Buffer.of(0), bytes)
const objectId = (hex: string): Buffer => tagged(0x06, Buffer.from(hex, "hex"))

/** ecdsa-with-SHA256 (RFC 5758, no parameters) and sha256WithRSAEncryption (RFC 4055, NULL). */
const signatureAlgorithms = {
  ec: sequence(objectId("2a8648ce3d040302")),
  rsa: sequence(objectId("2a864886f70d01010b"), tagged(0x05))
}

/** 16 bytes whose first is 0x40 to 0x7f: positive, and without a leading zero, which DER forbids. */
const serialNumber = (): Buffer => {
  const bytes = randomBytes(16)
  bytes.writeUInt8(bytes.readUInt8(0) & 0x3f | 0x40, 0)
  return bytes
}

/** One common name (2.5.4.3) as UTF8String. */
const distinguishedName = (commonName: string): Buffer =>
  sequence(tagged(0x31, sequence(objectId("550403"), tagged(0x0c, Buffer.from(commonName)))))

/** UTCTime to the end of 2049, GeneralizedTime after it (RFC 5280, section 4.1.2.5). */
const time = (date: Date): Buffer => {
  const digits = `${date.toISOString().slice(0, 19).replaceAll(/\D/gu, "")}Z`
  const utc = date.getUTCFullYear() >= 1950 && date.getUTCFullYear() < 2050
  return utc ? tagged(0x17, Buffer.from(digits.slice(2))) : tagged(0x18, Buffer.from(digits))
}

const subjectPublicKey = (key: KeyObject): Buffer => key.export({ type: "spki", format: "der" })

/** subjectAltName (2.5.29.17) with dNSName entries, which are IA5Strings under the tag [2]. */
const subjectAltName = (names: ReadonlyArray<string>): Buffer =>
  sequence(objectId("551d11"), octetString(sequence(...names.map((name) => tagged(0x82, Buffer.from(name, "latin1"))))))
