/** Decides whether a gateway's certificate replaces the stored one. Pure. */
import {
  type CertificateChain,
  hasSameLeaf,
  isSelfSigned,
  issuerOf,
  maxValidityMillis,
  readChain
} from "#crypto/certificateChain.ts"
import type { RenewalFacts, RenewalVerdict } from "#store/CertificateStore.ts"

/** Share of the validity that is left when a renewal is due, as ACME clients do by default. */
const renewalShare = 1 / 3

/**
 * A trusted certificate gives way to trusted ones only. A limited gateway replaces only what it stored itself or what belongs
 * to no client or operator any more; and what another gateway stored, by a trusted certificate when a renewal is due, so that
 * a lost gateway does not end the renewals. An expired certificate gives way to any.
 */
export function decideRenewal(
  offered: CertificateChain,
  { isLimited, stored }: RenewalFacts,
  isTrusted: (chain: CertificateChain) => boolean,
  now: number
): RenewalVerdict {
  const current = stored === undefined ? undefined : readChain(stored.certificate)
  if (stored === undefined || current === undefined || current.validTo < now) return "stored"
  const [wasTrusted, becomesTrusted] = [isTrusted(current), isTrusted(offered)]
  if (hasSameLeaf(offered, current)) return becomesTrusted && !wasTrusted ? "stored" : "unchanged"
  if (wasTrusted && !becomesTrusted) return "untrusted"
  if (stored.source === "self" || stored.source === "none") {
    if (becomesTrusted && !wasTrusted) return "stored"
    const isNewer = offered.validFrom >= current.validFrom || offered.validTo > current.validTo
    return isNewer ? "stored" : "outlived"
  }
  const isDue = now >= current.validTo - (current.validTo - current.validFrom) * renewalShare
  if (isLimited && !(stored.source === "gateway" && isDue && becomesTrusted)) return "kept"
  return becomesTrusted && !wasTrusted || offered.validTo >= current.validTo ? "stored" : "outlived"
}

export type Peculiarity = "self-signed" | "issuer-changed" | "far-future"

/** What an operator should know about a certificate that has replaced `previous` (PEM), and did not know before. */
export function peculiaritiesOf(
  chain: CertificateChain,
  previous: string | undefined,
  now: number
): ReadonlyArray<Peculiarity> {
  const before = previous === undefined ? undefined : readChain(previous)
  return [
    ...isSelfSigned(chain) && (before === undefined || !isSelfSigned(before)) ? ["self-signed" as const] : [],
    ...before !== undefined && issuerOf(before) !== issuerOf(chain) ? ["issuer-changed" as const] : [],
    ...chain.validTo > now + maxValidityMillis ? ["far-future" as const] : []
  ]
}
