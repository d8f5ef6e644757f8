/** Stores the certificates of domains, uploaded by operators or obtained by gateways. */
import { type CertificateInput, CertificateRejected, checkCertificate } from "#crypto/checkCertificate.ts"
import { type GatewayId, HostName, type Revision } from "#schema/ids.ts"
import type { Page, PageRequest } from "#schema/pagination.ts"
import type { Certificate, CertificatePut } from "#schema/resources.ts"
import { CertificateStore, type RenewalOutcome } from "#store/CertificateStore.ts"
import type { CertificateFilter } from "#store/listFilters.ts"
import { missing } from "#store/ReferenceStore.ts"
import type { StoreUnavailable, WithRevision } from "#store/sql.ts"
import type { UnreadableRow } from "#store/UnreadableRow.ts"
import { Clock, Context, Effect, Layer, Option, Redacted, Schema } from "effect"

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
   * Stores a certificate that a gateway has obtained. A tunnel must have the certificate's domain; for `*.x`, a domain one
   * label below x. The gateway must serve every such tunnel, because all gateways of these tunnels will use the certificate.
   * The certificate must not expire before the stored one. Storing the same certificate again is a no-op.
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

      const storeObtained = Effect.fn("Certificates.storeObtained")(
        function*(gateway: GatewayId, data: ObtainedCertificate) {
          const outcome = yield* store.renew(gateway, yield* checkedRow(data))
          const reason = rejectionReasons[outcome]
          if (reason !== undefined) return yield* new CertificateRejected({ reason })
          if (outcome === "stored")
            yield* Effect.logDebug(`stored a certificate for ${data.domain} that gateway ${gateway} obtained`)
        }
      )

      const put = Effect.fn("Certificates.put")(function*(domain: HostName, certificate: CertificatePut) {
        return yield* store.put(yield* checkedRow({ domain, ...certificate }))
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
  outlived: "a certificate that expires later is already stored for this domain",
  unused: "this gateway serves no tunnel whose domain the certificate is for",
  foreign: "this gateway does not serve every tunnel whose domain the certificate is for"
}

/** Checks a certificate and returns its row, with the expiry that the certificate contains. */
const checkedRow = Effect.fnUntraced(function*(input: CertificateInput) {
  const now = yield* Clock.currentTimeMillis
  const { expiresAt } = yield* Effect.fromResult(checkCertificate(input, now))
  return {
    domain: input.domain,
    certificate: input.certificate,
    privateKey: Redacted.make(input.privateKey),
    expiresAt
  }
})
