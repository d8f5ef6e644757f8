/** /api/certificates */
import { Certificates } from "#certificates/Certificates.ts"
import { Api } from "#schema/api.ts"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { pageRequest } from "./pageRequest.ts"
import { problemOf } from "./problems.ts"

export const layer = HttpApiBuilder.group(
  Api,
  "certificates",
  Effect.fnUntraced(function*(handlers) {
    const certificates = yield* Certificates
    return handlers.handleAll({
      list: ({ query }) => certificates.list(pageRequest(query)).pipe(Effect.mapError(problemOf)),
      get: ({ params }) => certificates.find(params.domain).pipe(Effect.mapError(problemOf)),
      put: ({ params, payload }) => certificates.put(params.domain, payload).pipe(Effect.mapError(problemOf)),
      remove: ({ params }) => certificates.remove(params.domain).pipe(Effect.mapError(problemOf))
    })
  })
)
