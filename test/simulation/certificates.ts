/** Certificates for the domains of the simulation, generated once per process. */
import { issueCertificate } from "#support/certificates.ts"
import { epoch } from "./Process.ts"

export const domains = ["a.example.com", "b.example.com", "c.example.com", "d.example.com", "e.example.com"] as const

/** Names of certificates: every domain, and one wildcard for all of them. */
const certificateNames = [...domains, "*.example.com"] as const

export interface IssuedCertificate {
  readonly domain: string
  readonly certificate: string
  readonly privateKey: string
  readonly expiresAt: string
}

const day = 86_400_000

/** Length of every certificate with this common name. Signatures differ by a few bytes, and so would simulated times. */
const pemLength = 554
const commonName = "self-signed by Control's tests"

const issue = (domain: string, days: number): IssuedCertificate => {
  const options = {
    names: [domain],
    commonName,
    notBefore: new Date(epoch - day),
    notAfter: new Date(epoch + days * day)
  }
  let issued = issueCertificate(options)
  while (issued.certificate.length !== pemLength) issued = issueCertificate(options)
  return { domain, ...issued }
}

let forGateways: ReadonlyArray<IssuedCertificate> | undefined

/** Certificates that gateways obtain: for each name one with 30 days, one with 60 days, and one that has expired. */
export const gatewayCertificates = (): ReadonlyArray<IssuedCertificate> => forGateways ??= issueAll([30, 60, -0.5])

let forOperators: ReadonlyArray<IssuedCertificate> | undefined

/** Certificates that operators store. Different from the gateways' ones, so that a stored certificate shows its origin. */
export const operatorCertificates = (): ReadonlyArray<IssuedCertificate> => forOperators ??= issueAll([20, 50])

const issueAll = (days: ReadonlyArray<number>): ReadonlyArray<IssuedCertificate> =>
  certificateNames.flatMap((domain) => days.map((end) => issue(domain, end)))
