/** Stores the certificates of domains, uploaded by operators or obtained by gateways. */
import { type CertificateChain, leadsToRoot, maxValidityMillis, systemRoots } from "#crypto/certificateChain.ts"
import { type CertificateInput, CertificateRejected, checkCertificate } from "#crypto/checkCertificate.ts"
import { Events } from "#events/Events.ts"
import { type GatewayId, HostName, type Revision } from "#schema/ids.ts"
import type { Page, PageRequest } from "#schema/pagination.ts"
import type { Certificate, CertificatePut } from "#schema/resources.ts"
import { AuditActor } from "#store/AuditActor.ts"
import { CertificateStore, type RenewalOutcome } from "#store/CertificateStore.ts"
import type { CertificateFilter } from "#store/listFilters.ts"
import { missing } from "#store/ReferenceStore.ts"
import type { StoreUnavailable, WithRevision } from "#store/sql.ts"
import type { UnreadableRow } from "#store/UnreadableRow.ts"
import { makeCertificateWriteLimit } from "./certificateWriteLimit.ts"
import { decideRenewal, peculiaritiesOf, type Peculiarity } from "./renewal.ts"
import { monotonicMillis } from "#time/monotonic.ts"
import { Clock, Context, Effect, Layer, Option, Schema } from "effect"

export { CertificateRejected } from "#crypto/checkCertificate.ts"

export class CertificateNotFound extends Schema.TaggedError<CertificateNotFound>()("CertificateNotFound", {
  domain: HostName,
  suggestion: Schema.optional(Schema.String)
}) {
  override get message(): string {
    return missing("certificate", this.domain, this.suggestion)
  }
}

/** Fields of the message `certificate_obtained`. Certificate and key are PEM; `expiresAt` is RFC 3339. */
export interface ObtainedCertificate {
  readonly domain: HostName
  readonly certificate: string
  readonly privateKey: string
  readonly expiresAt: string
}

export class Certificates extends Context.Service<Certificates, {
  /**
   * Stores a certificate that a gateway has obtained. A tunnel of the gateway must have the certificate's domain; for `*.x`,
   * a domain one label below x, and the `serves` of a limited gateway must list `*.x`.
   * `decideRenewal` has the rules for replacing a stored certificate. Storing the same certificate again is a no-op.
   */
  storeObtained(
    gateway: GatewayId,
    data: ObtainedCertificate
  ): Effect.Effect<void, CertificateRejected | StoreUnavailable>
  /** Stores an operator's certificate for any domain and replaces the stored one. */
  put(
    domain: HostName,
    certificate: CertificatePut
  ): Effect.Effect<WithRevision<Certificate>, CertificateRejected | StoreUnavailable>
  find(domain: HostName): Effect.Effect<Certificate, CertificateNotFound | UnreadableRow | StoreUnavailable>
  list(request: PageRequest, filter?: CertificateFilter): Effect.Effect<Page<Certificate>, StoreUnavailable>
  remove(domain: HostName): Effect.Effect<Revision, CertificateNotFound | StoreUnavailable>
}>()("control/services/Certificates") {
  static readonly layer = Layer.effect(
    Certificates,
    Effect.gen(function*() {
      const store = yield* CertificateStore
      const events = yield* Events
      const limit = makeCertificateWriteLimit()

      const publishPeculiarities = Effect.fnUntraced(
        function*(domain: HostName, chain: CertificateChain, previous: string | undefined) {
          const { actor: source } = yield* AuditActor
          const now = yield* Clock.currentTimeMillis
          for (const peculiarity of peculiaritiesOf(chain, previous, now)) {
            events.broadcast({ event: "certificate.peculiar", data: { domain, source, peculiarity } })
            yield* Effect.logWarning(`${source} stored a certificate for ${domain}: ${peculiarityTexts[peculiarity]}`)
          }
        }
      )

      const storeObtained = Effect.fn("Certificates.storeObtained")(
        function*(gateway: GatewayId, data: ObtainedCertificate) {
          const { chain, row } = yield* checkedRow(data)
          const now = yield* Clock.currentTimeMillis
          if (chain.validTo > now + maxValidityMillis) return yield* new CertificateRejected({ reason: tooLong })
          const isTrusted = (each: CertificateChain) => leadsToRoot(each, systemRoots(), now)
          const at = yield* monotonicMillis
          const bytes = row.certificate.length + data.privateKey.length
          const { outcome, previous } = yield* store.renew(gateway, row, (facts) => {
            const verdict = decideRenewal(chain, facts, isTrusted, now)
            return verdict !== "stored" || limit.tryAcquire(gateway, data.domain, bytes, at) ? verdict : "limited"
          })
          const reason = rejectionReasons[outcome]
          if (reason !== undefined) return yield* new CertificateRejected({ reason })
          if (outcome !== "stored") return
          yield* Effect.logDebug(`stored a certificate for ${data.domain} that gateway ${gateway} obtained`)
          yield* publishPeculiarities(data.domain, chain, previous)
        }
      )

      const put = Effect.fn("Certificates.put")(function*(domain: HostName, certificate: CertificatePut) {
        const { chain, row } = yield* checkedRow({ domain, ...certificate })
        const stored = yield* store.put(row)
        yield* publishPeculiarities(domain, chain, undefined)
        return stored
      })

      const find = Effect.fn("Certificates.find")(function*(domain: HostName) {
        const certificate = yield* store.find(domain)
        return Option.isSome(certificate) ? certificate.value : yield* new CertificateNotFound({ domain })
      })

      const remove = Effect.fn("Certificates.remove")(function*(domain: HostName) {
        const { revision, value: removed } = yield* store.remove(domain)
        if (!removed) return yield* new CertificateNotFound({ domain })
        return revision
      })

      return Certificates.of({ storeObtained, put, find, list: store.list, remove })
    })
  )
}

const rejectionReasons: { readonly [R in RenewalOutcome]: string | undefined } = {
  stored: undefined,
  unchanged: undefined,
  outlived: "a newer certificate is already stored for this domain",
  kept: "this limited gateway may not replace the certificate that another source has stored for this domain",
  limited: "this gateway has stored too many certificates; send it again in a few minutes",
  untrusted: "the stored certificate leads to a trusted root, and this one does not",
  unused: "this gateway serves no tunnel whose domain the certificate is for",
  foreign: "a limited gateway may store a wildcard only if its `serves` lists the same wildcard"
}

const tooLong = "the certificate is valid for more than 398 days from now"

const peculiarityTexts: { readonly [P in Peculiarity]: string } = {
  "self-signed": "it is self-signed, so that browsers reject it",
  "issuer-changed": "its issuer is another one than before",
  "far-future": "it expires more than 398 days from now"
}

/** Checks a certificate and returns its row, with the times that the certificate contains. */
const checkedRow = Effect.fnUntraced(function*(input: CertificateInput) {
  const now = yield* Clock.currentTimeMillis
  const { certificate, chain, expiresAt, privateKey, validFrom } = yield* Effect.fromResult(
    checkCertificate(input, now)
  )
  const row = { domain: input.domain, certificate, privateKey, expiresAt, validFrom }
  return { chain, row }
})
