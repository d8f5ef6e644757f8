/** Findings about stored certificates. Pure. */
import { type CertificateFacts, certificateFacts } from "#crypto/certificateFacts.ts"
import { maxValidityMillis } from "#crypto/certificateChain.ts"
import { namesCovering } from "#network/certificateNames.ts"
import type { Finding } from "#schema/doctor.ts"
import type { DatabaseFacts } from "#store/DoctorStore.ts"
import { firstNames, okFinding, problemFinding } from "./findings.ts"

/** Gateways renew when a third of the validity is left. */
const overdueShare = 1 / 4

interface StoredCertificate {
  readonly domain: string
  readonly source: string | null
  readonly withheld: boolean
  readonly facts: CertificateFacts
}

interface Rule {
  readonly severity: "fail" | "warn" | "note"
  readonly applies: (certificate: StoredCertificate, now: number) => boolean
  /** `what` (with the names of the domains), `why` and `remedy`. */
  readonly texts: (names: string) => readonly [string, string, string]
}

const rules: ReadonlyArray<Rule> = [
  {
    severity: "fail",
    applies: ({ facts }, now) => facts.endsAt < now,
    texts: (names) => [
      `the certificates of ${names} have expired`,
      "browsers warn visitors of these domains",
      "renew the certificates, and check why the gateway did not renew them"
    ]
  },
  {
    severity: "warn",
    applies: ({ facts }, now) => facts.endsAt >= now && facts.shareLeft(now) < overdueShare,
    texts: (names) => [
      `less than a quarter of the validity of the certificates of ${names} is left`,
      "gateways usually renew a certificate when a third of its validity is left",
      "check why the gateway has not renewed the certificates"
    ]
  },
  {
    severity: "fail",
    applies: ({ facts }) => !facts.coversDomain,
    texts: (names) => [
      `the certificates stored for ${names} do not cover that domain`,
      "browsers warn visitors of these domains; the certificates were written to the database directly",
      "store certificates for these domains with `control certificate create`"
    ]
  },
  {
    severity: "fail",
    applies: ({ withheld }) => withheld,
    texts: (names) => [
      `the certificates of ${names} are withheld from all gateways`,
      "a limited gateway stored them, and they also cover tunnels that this gateway does not serve",
      "store other certificates with `control certificate create`, or let the gateway serve all of these tunnels"
    ]
  },
  {
    severity: "warn",
    applies: ({ facts }) => facts.isSelfSigned,
    texts: (names) => [
      `the certificates of ${names} are self-signed`,
      "browsers warn visitors of these domains",
      "check who stored them with `control certificate list`, and store certificates of a trusted authority"
    ]
  },
  {
    severity: "warn",
    applies: ({ facts }, now) => facts.endsAt > now + maxValidityMillis,
    texts: (names) => [
      `the certificates of ${names} expire more than 398 days from now`,
      "browsers reject public certificates with such a validity, and a leaked key stays usable for as long",
      "check who stored them with `control certificate list`"
    ]
  }
]

export const certificateFindings = ({ certificates, tunnels }: DatabaseFacts, now: number): ReadonlyArray<Finding> => {
  const read = certificates.map(({ certificate, ...row }) => ({
    ...row,
    facts: certificateFacts(certificate, row.domain)
  }))
  const readable = read.flatMap(({ facts, ...row }) => facts === undefined ? [] : [{ ...row, facts }])
  const unreadable = read.filter(({ facts }) => facts === undefined).map(({ domain }) => domain)
  const available = new Set(certificates.filter(({ withheld }) => !withheld).map(({ domain }) => domain))
  const bare = tunnels.filter((domain) => !namesCovering(domain).some((name) => available.has(name)))
  const problems = [
    ...unreadable.length === 0 ? [] : [problemFinding("certificates", "fail", [
      `the certificates of ${firstNames(unreadable)} cannot be read`,
      "gateways cannot serve these certificates",
      "store the certificates again with `control certificate create`"
    ])],
    ...rules.flatMap(({ applies, severity, texts }) => {
      const domains = readable.filter((certificate) => applies(certificate, now)).map(({ domain }) => domain)
      return domains.length === 0 ? [] : [problemFinding("certificates", severity, texts(firstNames(domains)))]
    }),
    ...bare.length === 0 ? [] : [problemFinding("certificates", "note", [
      `no certificate is stored for ${firstNames(bare)}`,
      "HTTPS works for these tunnels only if the gateways have their own certificates",
      "none if the gateways have their own certificates; otherwise check why no gateway obtained one"
    ])]
  ]
  return problems.length > 0
    ? problems
    : [okFinding("certificates", `${certificates.length} certificates, all valid`)]
}
