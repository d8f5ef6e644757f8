/** Handlers of /api/certificates. */
import { Certificates } from "#services/Certificates.ts"
import { References } from "#services/References.ts"
import { Api } from "#schema/api.ts"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { makeDeliveryWait } from "./waitForDelivery.ts"
import { pageRequest } from "./pagination.ts"
import { problemOf } from "./problems.ts"

export const layer = HttpApiBuilder.group(
  Api,
  "certificates",
  Effect.fnUntraced(function*(handlers) {
    const certificates = yield* Certificates
    const references = yield* References
    const { deletionResult, deliveryFields } = yield* makeDeliveryWait
    return handlers.handleAll({
      list: ({ query }) => certificates.list(pageRequest(query), query).pipe(Effect.mapError(problemOf)),
      get: ({ params }) =>
        certificates.find(params.domain).pipe(
          Effect.catchTag("CertificateNotFound", references.suggestDomain),
          Effect.mapError(problemOf)
        ),
      put: ({ params, payload, query }) =>
        Effect.gen(function*() {
          const { revision, value } = yield* certificates.put(params.domain, payload)
          return { ...value, ...yield* deliveryFields(query, revision) }
        }).pipe(Effect.mapError(problemOf)),
      remove: ({ params, query }) =>
        certificates.remove(params.domain).pipe(
          Effect.catchTag("CertificateNotFound", references.suggestDomain),
          Effect.flatMap((revision) => deletionResult(query, revision)),
          Effect.mapError(problemOf)
        )
    })
  })
)
