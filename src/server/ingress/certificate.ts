/** A certificate and its key as TLS uses them, read from files and found to fit. */
import type { SettingsValues } from "#server/Settings.ts"
import { Option, Schema } from "effect"
import { createHash, X509Certificate } from "node:crypto"
import { readFileSync, statSync } from "node:fs"
import { createSecureContext, type SecureContextOptions } from "node:tls"

/** What the two files hold, whether or not it is of use. */
export interface Contents {
  readonly cert: Buffer
  readonly key: Buffer
  /** Another one for other contents. */
  readonly fingerprint: string
  /** Whether others than the owner and the group of the key's file may read it, or others than the owner write it. */
  readonly isKeyExposed: boolean
}

export interface Pair extends Contents {
  /** For `createServer` and `setSecureContext`. */
  readonly options: SecureContextOptions
  /** Milliseconds since 1970. */
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

/** The oldest version that is not deprecated (RFC 8996). */
const minVersion = "TLSv1.2"

/** What lies in the files of the settings; nothing where TLS is not wanted. Throws `CertificateUnusable`. */
export const readContents = ({ tlsCertificate, tlsPrivateKey }: SettingsValues): Contents | undefined => {
  if (Option.isNone(tlsCertificate) || Option.isNone(tlsPrivateKey)) return undefined
  return orUnusable(() => {
    const cert = readFileSync(tlsCertificate.value)
    const key = readFileSync(tlsPrivateKey.value)
    const fingerprint = createHash("sha256").update(cert).update("\0").update(key).digest("hex")
    return { cert, key, fingerprint, isKeyExposed: (statSync(tlsPrivateKey.value).mode & 0o027) !== 0 }
  })
}

/** Throws `CertificateUnusable` where the two are no certificate and its key. */
export const pairFrom = (contents: Contents): Pair =>
  orUnusable(() => {
    const options = { cert: contents.cert, key: contents.key, minVersion } as const
    // OpenSSL finds out here whether the two are well-formed and belong together.
    createSecureContext(options)
    const { validFromDate, validToDate } = new X509Certificate(contents.cert)
    return { ...contents, options, notBefore: validFromDate.getTime(), notAfter: validToDate.getTime() }
  })

/** The pair of the settings; nothing where TLS is not wanted. Throws `CertificateUnusable`. */
export const readPair = (settings: SettingsValues): Pair | undefined => {
  const contents = readContents(settings)
  return contents && pairFrom(contents)
}

/** With OpenSSL's and the system's own words; neither quotes the contents of a file. */
function orUnusable<A>(attempt: () => A): A {
  try {
    return attempt()
  } catch (cause) {
    throw new CertificateUnusable({ reason: cause instanceof Error ? cause.message : String(cause) })
  }
}

const day = 86_400_000

/** What an operator must know of its dates; nothing while all is well. */
export const complaintOf = (
  { notAfter, notBefore }: Pick<Pair, "notAfter" | "notBefore">,
  now: number
): string | undefined => {
  // A certificate that is good for a few days only is replaced late in its life.
  const soon = Math.min(14 * day, (notAfter - notBefore) / 3)
  if (now < notBefore) return "is not valid yet"
  if (now >= notAfter) return "has expired"
  const days = Math.ceil((notAfter - now) / day)
  return now >= notAfter - soon ? `expires within ${days === 1 ? "a day" : `${days} days`}` : undefined
}
