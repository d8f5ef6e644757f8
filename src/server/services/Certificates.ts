/** Certificates: what operators store, and what gateways have obtained and pass on. */
import { type CertificateInput, CertificateRejected, checkCertificate } from "#crypto/certificates.ts"
import { type GatewayId, HostName, type Revision } from "#schema/ids.ts"
import type { Certificate, CertificatePut, Page, PageRequest } from "#schema/resources.ts"
import { CertificateStore, type Renewal } from "#store/CertificateStore.ts"
import type { StoreUnavailable, Written } from "#store/sql.ts"
import type { UnreadableRow } from "#store/UnreadableRow.ts"
import { Clock, Context, Effect, Layer, Option, Redacted, Schema } from "effect"

export { CertificateRejected } from "#crypto/certificates.ts"

export class CertificateNotFound extends Schema.TaggedError<CertificateNotFound>()("CertificateNotFound", {
  domain: HostName
}) {
  override get message(): string {
    return `there is no certificate for ${this.domain}`
  }
}

/** The data of `certificate_obtained`. */
export interface Obtained {
  readonly domain: HostName
  readonly certificate: string
  readonly privateKey: string
  readonly expiresAt: string
}

export class Certificates extends Context.Service<Certificates, {
  /**
   * From a gateway, which may only serve what is there: a tunnel must have the domain, or for `*.x` a name one label below x,
   * and the gateway must serve all that do, since the others that serve them would use it. It must not end before the one
   * that is stored; the very same one again changes nothing.
   */
  obtained(gateway: GatewayId, data: Obtained): Effect.Effect<void, CertificateRejected | StoreUnavailable>
  /** From an operator: any domain, in the place of whatever is stored. */
  put(
    domain: HostName,
    certificate: CertificatePut
  ): Effect.Effect<Written<Certificate>, CertificateRejected | StoreUnavailable>
  find(domain: HostName): Effect.Effect<Certificate, CertificateNotFound | UnreadableRow | StoreUnavailable>
  list(request: PageRequest): Effect.Effect<Page<Certificate>, StoreUnavailable>
  remove(domain: HostName): Effect.Effect<Revision, CertificateNotFound | StoreUnavailable>
}>()("control/services/Certificates") {
  static readonly layer = Layer.effect(
    Certificates,
    Effect.gen(function*() {
      const store = yield* CertificateStore

      const obtained = Effect.fn("Certificates.obtained")(function*(gateway: GatewayId, data: Obtained) {
        const renewal = yield* store.renew(gateway, yield* checked(data))
        const reason = refusals[renewal]
        if (reason !== undefined) return yield* new CertificateRejected({ reason })
        if (renewal === "stored")
          yield* Effect.logInfo(`gateway ${gateway} has obtained a certificate for ${data.domain}`)
      })

      const put = Effect.fn("Certificates.put")(function*(domain: HostName, certificate: CertificatePut) {
        return yield* store.put(yield* checked({ domain, ...certificate }))
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

      return Certificates.of({ obtained, put, find, list: store.list, remove })
    })
  )
}

const refusals: { readonly [R in Renewal]: string | undefined } = {
  stored: undefined,
  unchanged: undefined,
  outlived: "a certificate that ends later is already stored for this domain",
  unused: "this gateway serves no tunnel whose domain the certificate is for",
  foreign: "this gateway does not serve every tunnel whose domain the certificate is for"
}

/** The row to store: what was given, with the end that the certificate itself tells. */
const checked = Effect.fnUntraced(function*(input: CertificateInput) {
  const now = yield* Clock.currentTimeMillis
  const { expiresAt } = yield* Effect.fromResult(checkCertificate(input, now))
  return {
    domain: input.domain,
    certificate: input.certificate,
    privateKey: Redacted.make(input.privateKey),
    expiresAt
  }
})
