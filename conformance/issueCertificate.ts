/** Creates certificates, so that no transcript or test has one that expires, and none needs openssl. */
import { generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto"

export interface CertificateOptions {
  /** DNS names of subjectAltName. Without names the certificate lacks the extension. */
  readonly names: ReadonlyArray<string>
  /** Default: one hour ago. */
  readonly notBefore?: Date
  /** Default: in 90 days. */
  readonly notAfter?: Date
  /** `ec` (P-256, default) takes 1 ms, `rsa` (2048 bits) a few hundred. */
  readonly key?: "ec" | "rsa"
  /** Common name of subject and issuer, at most 64 characters. */
  readonly commonName?: string
  /** The authority that signs (P-256). Default: the certificate signs itself. */
  readonly issuer?: { readonly commonName: string; readonly privateKey: string }
  /** Whether the certificate may sign others. Default: false. */
  readonly isAuthority?: boolean
}

export interface IssuedCertificate {
  /** PEM. */
  readonly certificate: string
  /** PEM, PKCS #8. */
  readonly privateKey: string
  /** notAfter in RFC 3339, without milliseconds, which certificates cannot express. */
  readonly expiresAt: string
}

/** Creates an X.509 v3 certificate (RFC 5280) and its key. */
export const issueCertificate = (options: CertificateOptions): IssuedCertificate => {
  const { publicKey, privateKey } = options.key === "rsa"
    ? generateKeyPairSync("rsa", { modulusLength: 2048 })
    : generateKeyPairSync("ec", { namedCurve: "P-256" })
  const notBefore = options.notBefore ?? new Date(Date.now() - hourMillis)
  const notAfter = toSecond(options.notAfter ?? new Date(Date.now() + 90 * 24 * hourMillis))
  const algorithm = signatureAlgorithms[options.issuer === undefined ? options.key ?? "ec" : "ec"]
  const name = distinguishedName(options.commonName ?? "self-signed by the conformance kit")
  const issuer = options.issuer === undefined ? name : distinguishedName(options.issuer.commonName)
  const extensions = [
    ...options.names.length === 0 ? [] : [subjectAltName(options.names)],
    ...options.isAuthority === true ? [authority] : []
  ]
  const body = sequence(
    explicit(0, integer(Buffer.of(2))),
    integer(serialNumber()),
    algorithm,
    issuer,
    sequence(time(notBefore), time(notAfter)),
    name,
    subjectPublicKey(publicKey),
    ...(extensions.length === 0 ? [] : [explicit(3, sequence(...extensions))])
  )
  const certificate = sequence(
    body,
    algorithm,
    bitString(sign("sha256", body, options.issuer?.privateKey ?? privateKey))
  )
  return {
    certificate: pem("CERTIFICATE", certificate),
    privateKey: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
    expiresAt: notAfter.toISOString()
  }
}

const hourMillis = 3_600_000

const toSecond = (date: Date): Date => new Date(Math.floor(date.getTime() / 1000) * 1000)

/** PEM with lines of 64 characters (RFC 7468). */
const pem = (label: string, der: Buffer): string => {
  const lines = der.toString("base64").replaceAll(/.{1,64}/gu, "$&\n")
  return `-----BEGIN ${label}-----\n${lines}-----END ${label}-----\n`
}

/** A DER value (X.690): tag, length, content. */
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

/** 16 random bytes. The first is 0x40 to 0x7f, so that the number is positive and has no leading zero, which DER forbids. */
const serialNumber = (): Buffer => {
  const bytes = randomBytes(16)
  bytes.writeUInt8(bytes.readUInt8(0) & 0x3f | 0x40, 0)
  return bytes
}

/** One common name (2.5.4.3) as UTF8String. */
const distinguishedName = (commonName: string): Buffer =>
  sequence(tagged(0x31, sequence(objectId("550403"), tagged(0x0c, Buffer.from(commonName)))))

/** UTCTime until the end of 2049, then GeneralizedTime (RFC 5280, section 4.1.2.5). */
const time = (date: Date): Buffer => {
  const digits = `${date.toISOString().slice(0, 19).replaceAll(/\D/gu, "")}Z`
  const utc = date.getUTCFullYear() >= 1950 && date.getUTCFullYear() < 2050
  return utc ? tagged(0x17, Buffer.from(digits.slice(2))) : tagged(0x18, Buffer.from(digits))
}

const subjectPublicKey = (key: KeyObject): Buffer => key.export({ type: "spki", format: "der" })

/** subjectAltName (2.5.29.17) with dNSName entries, which are IA5Strings under the tag [2]. */
const subjectAltName = (names: ReadonlyArray<string>): Buffer =>
  sequence(objectId("551d11"), octetString(sequence(...names.map((name) => tagged(0x82, Buffer.from(name, "latin1"))))))

/** basicConstraints (2.5.29.19), critical: a certificate authority. */
const authority = sequence(
  objectId("551d13"),
  tagged(0x01, Buffer.of(0xff)),
  octetString(sequence(tagged(0x01, Buffer.of(0xff))))
)
