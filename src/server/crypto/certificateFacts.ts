/** Reads expiry and names of a stored certificate, for the doctor. */
import { X509Certificate } from "node:crypto"

export interface CertificateFacts {
  /** Expiry in milliseconds since 1970. */
  readonly endsAt: number
  /** Whether subjectAltName covers the domain. */
  readonly coversDomain: boolean
}

/** Undefined if the first PEM block is not a readable certificate. */
export const certificateFacts = (pem: string, domain: string): CertificateFacts | undefined => {
  try {
    const leaf = new X509Certificate(pem)
    const coversDomain = leaf.checkHost(domain, { subject: "never", partialWildcards: false }) !== undefined
    return { endsAt: leaf.validToDate.getTime(), coversDomain }
  } catch {
    return undefined
  }
}
