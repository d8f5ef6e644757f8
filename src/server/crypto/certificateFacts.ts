/** Reads expiry and names of a stored certificate, for the doctor. */
import { isSelfSigned, readChain } from "./certificateChain.ts"

export interface CertificateFacts {
  /** Expiry in milliseconds since 1970. */
  readonly endsAt: number
  /** Share of the validity that is left at a moment in milliseconds since 1970; negative after the expiry. */
  readonly shareLeft: (now: number) => number
  readonly isSelfSigned: boolean
  /** Whether subjectAltName covers the domain. */
  readonly coversDomain: boolean
}

/** Undefined if the first PEM block is not a readable certificate. */
export const certificateFacts = (pem: string, domain: string): CertificateFacts | undefined => {
  try {
    const chain = readChain(pem)
    if (chain === undefined) return undefined
    const { certificates: [leaf], validFrom, validTo } = chain
    const coversDomain = leaf.checkHost(domain, { subject: "never", partialWildcards: false }) !== undefined
    const shareLeft = (now: number) => (validTo - now) / (validTo - validFrom)
    return { endsAt: validTo, shareLeft, isSelfSigned: isSelfSigned(chain), coversDomain }
  } catch {
    return undefined
  }
}
