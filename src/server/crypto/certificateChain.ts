/** Reads certificate chains, and verifies them up to a trusted root. Pure, except for the system's roots. */
import { X509Certificate } from "node:crypto"
import { getCACertificates } from "node:tls"

export interface CertificateChain {
  /** The leaf comes first. */
  readonly certificates: readonly [X509Certificate, ...Array<X509Certificate>]
  /** Validity of the leaf, in milliseconds since 1970. */
  readonly validFrom: number
  readonly validTo: number
}

/** Longest validity of public certificates (CA/Browser Forum, Baseline Requirements 6.3.2). */
export const maxValidityMillis = 398 * 86_400_000

export const makeChain = (certificates: CertificateChain["certificates"]): CertificateChain => ({
  certificates,
  validFrom: certificates[0].validFromDate.getTime(),
  validTo: certificates[0].validToDate.getTime()
})

/** Text and line breaks around the blocks disappear, so that equal chains have equal texts (RFC 7468). */
export const canonicalPem = ({ certificates }: CertificateChain): string =>
  certificates.map((certificate) => certificate.toString()).join("")

/** Reads a stored chain; undefined if a block is not a certificate. */
export function readChain(pem: string): CertificateChain | undefined {
  try {
    const blocks = pem.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/gu) ?? []
    const [leaf, ...rest] = blocks.map((block) => new X509Certificate(block))
    return leaf && makeChain([leaf, ...rest])
  } catch {
    return undefined
  }
}

export const hasSameLeaf = (a: CertificateChain, b: CertificateChain): boolean =>
  a.certificates[0].raw.equals(b.certificates[0].raw)

/** Whether the leaf is its own issuer, so that browsers cannot trust it. */
export const isSelfSigned = ({ certificates: [leaf] }: CertificateChain): boolean =>
  leaf.checkIssued(leaf) && isSignedBy(leaf, leaf)

export const issuerOf = ({ certificates: [leaf] }: CertificateChain): string => leaf.issuer

/**
 * Longer paths do not exist on the public internet. More intermediates are not read, because a forged chain of hundreds would
 * take minutes of signature checks.
 */
const maxPathLength = 8

/**
 * Whether a path of valid signatures leads from the leaf to a root, at `now` (milliseconds since 1970). Names and usages are
 * not judged (RFC 5280, section 6), because browsers judge them.
 */
export function leadsToRoot(
  { certificates: [leaf, ...intermediates] }: CertificateChain,
  roots: ReadonlyMap<string, ReadonlyArray<X509Certificate>>,
  now: number
): boolean {
  const isUsable = (issuer: X509Certificate, issued: X509Certificate): boolean =>
    issuer.ca && isValidAt(issuer, now) && issued.checkIssued(issuer) && isSignedBy(issued, issuer)
  let frontier = [leaf]
  let unvisited = intermediates.slice(0, maxPathLength)
  while (frontier.length > 0) {
    if (frontier.some((issued) => (roots.get(issued.issuer) ?? []).some((root) => isUsable(root, issued)))) return true
    const issued = frontier
    frontier = unvisited.filter((each) => issued.some((one) => isUsable(each, one)))
    unvisited = unvisited.filter((each) => !frontier.includes(each))
  }
  return false
}

/** Roots by their subject. */
export function indexRoots(pems: ReadonlyArray<string>): ReadonlyMap<string, ReadonlyArray<X509Certificate>> {
  const roots = new Map<string, Array<X509Certificate>>()
  for (const pem of new Set(pems)) {
    const root = readChain(pem)?.certificates[0]
    if (root !== undefined) roots.set(root.subject, [...roots.get(root.subject) ?? [], root])
  }
  return roots
}

let loaded: ReadonlyMap<string, ReadonlyArray<X509Certificate>> | undefined

/** Node's roots, those of NODE_EXTRA_CA_CERTS and those of the operating system; read once. */
export const systemRoots = () =>
  loaded ??= indexRoots([...getCACertificates("default"), ...getCACertificates("system")])

const isValidAt = ({ validFromDate, validToDate }: X509Certificate, now: number): boolean =>
  validFromDate.getTime() <= now && now <= validToDate.getTime()

/** The key size is bounded, because a signature of a forged key of 65,536 bits takes seconds to verify. */
function isSignedBy(issued: X509Certificate, issuer: X509Certificate): boolean {
  try {
    const { modulusLength = 0 } = issuer.publicKey.asymmetricKeyDetails ?? {}
    return modulusLength <= 8_192 && issued.verify(issuer.publicKey)
  } catch {
    return false
  }
}
