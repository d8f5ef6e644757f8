/** Reads and checks the TLS certificate and private key of the settings. */
import { isFileExposed } from "#files/isFileExposed.ts"
import type { SettingsValues } from "#server/Settings.ts"
import { Option, Schema } from "effect"
import { createHash, X509Certificate } from "node:crypto"
import { readFileSync } from "node:fs"
import { createSecureContext, type SecureContextOptions } from "node:tls"

/** Unchecked contents of the two files. */
export interface KeyPairFiles {
  readonly cert: Buffer
  readonly key: Buffer
  /** SHA-256 of both files. */
  readonly fingerprint: string
  /** Whether users outside owner and group can read the key file, or users other than the owner can write it. */
  readonly isKeyExposed: boolean
}

/** Certificate and private key that belong together. */
export interface TlsKeyPair extends KeyPairFiles {
  /** Options for `createServer` and `setSecureContext`. */
  readonly options: SecureContextOptions
  /** Milliseconds since 1970, as is `notAfter`. */
  readonly notBefore: number
  readonly notAfter: number
}

/** The certificate and the private key of the settings cannot serve TLS. */
export class CertificateUnusable extends Schema.TaggedError<CertificateUnusable>()("CertificateUnusable", {
  reason: Schema.String
}) {
  override get message(): string {
    return `CONTROL_TLS_CERTIFICATE and CONTROL_TLS_PRIVATE_KEY cannot be used: ${this.reason}`
  }
}

/** Older versions are deprecated (RFC 8996). */
const minTlsVersion = "TLSv1.2"

/** Reads the files of the settings; undefined if TLS is not configured. Throws `CertificateUnusable`. */
export const readKeyPairFiles = ({ tlsCertificate, tlsPrivateKey }: SettingsValues): KeyPairFiles | undefined => {
  if (Option.isNone(tlsCertificate) || Option.isNone(tlsPrivateKey)) return undefined
  return unusableOnThrow(() => {
    const cert = readFileSync(tlsCertificate.value)
    const key = readFileSync(tlsPrivateKey.value)
    const fingerprint = createHash("sha256").update(cert).update("\0").update(key).digest("hex")
    return { cert, key, fingerprint, isKeyExposed: isFileExposed(tlsPrivateKey.value) }
  })
}

/** Checks that the files contain a certificate and its key. Throws `CertificateUnusable`. */
export const parseKeyPair = (files: KeyPairFiles): TlsKeyPair =>
  unusableOnThrow(() => {
    const options = { cert: files.cert, key: files.key, minVersion: minTlsVersion } as const
    // OpenSSL checks here that both are well-formed and belong together.
    createSecureContext(options)
    const { validFromDate, validToDate } = new X509Certificate(files.cert)
    return { ...files, options, notBefore: validFromDate.getTime(), notAfter: validToDate.getTime() }
  })

/** Reads and checks the key pair of the settings; undefined if TLS is not configured. Throws `CertificateUnusable`. */
export const readKeyPair = (settings: SettingsValues): TlsKeyPair | undefined => {
  const files = readKeyPairFiles(settings)
  return files && parseKeyPair(files)
}

/** The reason is the message of OpenSSL or the system. Neither quotes the contents of a file. */
function unusableOnThrow<A>(attempt: () => A): A {
  try {
    return attempt()
  } catch (cause) {
    throw new CertificateUnusable({ reason: cause instanceof Error ? cause.message : String(cause) })
  }
}

const dayMillis = 86_400_000

/**
 * Warning about the validity of the certificate at `now` (milliseconds since 1970), to complete "the certificate …";
 * undefined if there is none.
 */
export const validityWarning = (
  { notAfter, notBefore }: Pick<TlsKeyPair, "notAfter" | "notBefore">,
  now: number
): string | undefined => {
  // Short-lived certificates are renewed in the last third of their life, others 14 days before expiry.
  const soon = Math.min(14 * dayMillis, (notAfter - notBefore) / 3)
  if (now < notBefore) return "is not valid yet"
  if (now >= notAfter) return "has expired"
  const days = Math.ceil((notAfter - now) / dayMillis)
  return now >= notAfter - soon ? `expires within ${days === 1 ? "1 day" : `${days} days`}` : undefined
}
