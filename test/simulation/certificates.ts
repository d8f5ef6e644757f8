/** A few real certificates for the domains of the simulation, made once for all seeds. */
import { issueCertificate } from "#support/certificates.ts"
import { epoch } from "./Process.ts"

export const domains = ["a.example.com", "b.example.com", "c.example.com", "d.example.com", "e.example.com"] as const

/** Names that a gateway may have a certificate for: each domain's own, and the wildcard for all of them. */
const certificateNames = [...domains, "*.example.com"] as const

export interface IssuedCertificate {
  readonly domain: string
  readonly certificate: string
  readonly privateKey: string
  readonly expiresAt: string
}

const day = 86_400_000

/** Lengths differ from process to process by a few characters, which times must not depend on. */
const padded = (pem: string) => pem.padEnd(1_200, "\n")

const issue = (domain: string, days: number): IssuedCertificate => {
  const issued = issueCertificate({
    names: [domain],
    notBefore: new Date(epoch - day),
    notAfter: new Date(epoch + days * day)
  })
  return { domain, ...issued, certificate: padded(issued.certificate), privateKey: padded(issued.privateKey) }
}

let made: ReadonlyArray<IssuedCertificate> | undefined

/** For every name one that ends early and one that ends late, and one that has expired: what gateways obtain. */
export const gatewayCertificates = (): ReadonlyArray<IssuedCertificate> => made ??= issueAll([30, 60, -0.5])

let operators: ReadonlyArray<IssuedCertificate> | undefined

/** What operators store: others, so that it is known whose a stored one is. */
export const operatorCertificates = (): ReadonlyArray<IssuedCertificate> => operators ??= issueAll([20, 50])

const issueAll = (days: ReadonlyArray<number>): ReadonlyArray<IssuedCertificate> =>
  certificateNames.flatMap((domain) => days.map((end) => issue(domain, end)))
