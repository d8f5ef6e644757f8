/** Rejects requests that do not match the API schemas, and lists every error with its path. */
import { redactKeys } from "#crypto/apiKeys.ts"
import { Validation } from "#schema/apiParts.ts"
import { fieldErrorsOf } from "#schema/fieldErrors.ts"
import { InvalidRequest } from "#schema/problems.ts"
import { Effect, Layer, type Types } from "effect"
import { HttpServerRequest } from "effect/http"
import { HttpApiError } from "effect/http-api"

export const layer = Layer.succeed(
  Validation,
  Validation.of((handler, { endpoint }) =>
    Effect.gen(function*() {
      // The schemas of an endpoint without query parameters do not look at the query.
      const unknownParameters = endpoint.query === undefined
        ? Object.keys(yield* HttpServerRequest.ParsedSearchParams)
        : []
      if (unknownParameters.length > 0) {
        return yield* invalidRequest(
          unknownParameters.map((path) => ({ in: "query", path, message: "unknown parameter" }))
        )
      }
      return yield* handler.pipe(
        Effect.catch((error): Effect.Effect<never, InvalidRequest | Types.unhandled> =>
          isRequestSchemaError(error) ? invalidRequest(inputErrorsOf(error)) : Effect.fail(error)
        )
      )
    })
  )
)

type InputError = (typeof InvalidRequest.Type)["errors"][number]

/** The messages quote names and values of the request, except API keys. */
const invalidRequest = (found: ReadonlyArray<InputError>) => {
  const errors = found.map((error) => ({
    ...error,
    path: redactKeys(error.path),
    message: redactKeys(error.message)
  }))
  const [first] = errors
  const detail = first === undefined ? "" : `${first.in}${first.path === "" ? "" : ` ${first.path}`}: ${first.message}`
  return Effect.fail(new InvalidRequest({ detail, errors }))
}

const requestParts = { Params: "path", Query: "query", Headers: "header", Payload: "body" } as const

/** Schema errors of the request. Errors of a response are not included, because they are defects of the server. */
type RequestSchemaError = HttpApiError.HttpApiSchemaError & { readonly kind: keyof typeof requestParts }

const isRequestSchemaError = (error: unknown): error is RequestSchemaError =>
  HttpApiError.HttpApiSchemaError.is(error) && Object.hasOwn(requestParts, error.kind)

function inputErrorsOf({ cause, kind }: RequestSchemaError): ReadonlyArray<InputError> {
  return fieldErrorsOf(cause.issue).map(({ message, path }) => ({
    in: requestParts[kind],
    path,
    message: message === "Expected no excess property" ? unknownNameMessages[requestParts[kind]] : message
  }))
}

const unknownNameMessages = {
  path: "unknown part of the path",
  query: "unknown parameter",
  header: "unknown header",
  body: "unknown field"
}
