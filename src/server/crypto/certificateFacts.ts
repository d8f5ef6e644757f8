/** What a stored certificate says of itself, for whoever looks after it. */
import { X509Certificate } from "node:crypto"

export interface CertificateFacts {
  /** Milliseconds since 1970. */
  readonly endsAt: number
  readonly covers: boolean
}

/** Undefined where the first block is no readable certificate. */
export const certificateFacts = (pem: string, domain: string): CertificateFacts | undefined => {
  try {
    const leaf = new X509Certificate(pem)
    const covers = leaf.checkHost(domain, { subject: "never", partialWildcards: false }) !== undefined
    return { endsAt: leaf.validToDate.getTime(), covers }
  } catch {
    return undefined
  }
}
