/** What does not fit the schemas of the API is refused here, each fault with its place. */
import { withoutKeys } from "#crypto/apiKeys.ts"
import { Validation } from "#schema/apiParts.ts"
import { faultsOf } from "#schema/inputErrors.ts"
import { InvalidRequest } from "#schema/problems.ts"
import { Effect, Layer, type Types } from "effect"
import { HttpServerRequest } from "effect/http"
import { HttpApiError } from "effect/http-api"

export const layer = Layer.succeed(
  Validation,
  Validation.of((answer, { endpoint }) =>
    Effect.gen(function*() {
      // An endpoint that declares no parameters would overlook them.
      const given = endpoint.query === undefined ? Object.keys(yield* HttpServerRequest.ParsedSearchParams) : []
      if (given.length > 0) {
        return yield* refuse(given.map((path) => ({ in: "query", path, message: "there is no such parameter" })))
      }
      return yield* answer.pipe(
        Effect.catch((error): Effect.Effect<never, InvalidRequest | Types.unhandled> =>
          isFault(error) ? refuse(faultsIn(error)) : Effect.fail(error)
        )
      )
    })
  )
)

type Fault = (typeof InvalidRequest.Type)["errors"][number]

/** Names and values that were sent are repeated; a key among them is not. */
const refuse = (faults: ReadonlyArray<Fault>) => {
  const errors = faults.map((fault) => ({
    ...fault,
    path: withoutKeys(fault.path),
    message: withoutKeys(fault.message)
  }))
  const [first] = errors
  const detail = first === undefined ? "" : `${first.in}${first.path === "" ? "" : ` ${first.path}`}: ${first.message}`
  return Effect.fail(new InvalidRequest({ detail, errors }))
}

const places = { Params: "path", Query: "query", Headers: "header", Payload: "body" } as const

/** What the server itself has encoded wrongly is no fault of the request. */
type FaultyRequest = HttpApiError.HttpApiSchemaError & { readonly kind: keyof typeof places }

const isFault = (error: unknown): error is FaultyRequest =>
  HttpApiError.HttpApiSchemaError.is(error) && Object.hasOwn(places, error.kind)

function faultsIn({ cause, kind }: FaultyRequest): ReadonlyArray<Fault> {
  return faultsOf(cause.issue).map(({ message, path }) => ({
    in: places[kind],
    path,
    message: message === "Expected no excess property" ? unknownName[places[kind]] : message
  }))
}

const unknownName = {
  path: "there is no such part",
  query: "there is no such parameter",
  header: "there is no such header",
  body: "there is no such field"
}
