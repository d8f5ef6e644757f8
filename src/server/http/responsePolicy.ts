/** What holds for every answer, whichever endpoint gives it: its headers, and that a refusal is a problem (RFC 9457). */
import { makeAdmission } from "#ingress/admission.ts"
import { Settings } from "#server/Settings.ts"
import { actingAs } from "#store/AuditActor.ts"
import { NodeHttpServerRequest } from "@effect/platform-node"
import { ByteSize, Cause, Effect, type Types } from "effect"
import {
  HttpIncomingMessage,
  HttpRouter,
  HttpServerError,
  HttpServerRequest,
  HttpServerResponse,
  ProblemDetails
} from "effect/http"
import { allowedMethods } from "./allowedMethods.ts"
import { generalProblem } from "./problems.ts"

const largestBody = ByteSize.mebibytes(1)

/** Seconds: as long as a database usually takes to come back. */
const retryAfter = "5"

export const layer = HttpRouter.middleware(
  Effect.gen(function*() {
    const admit = makeAdmission("api", yield* Settings)
    return (answer: Effect.Effect<HttpServerResponse.HttpServerResponse, Types.unhandled>) =>
      Effect.gen(function*() {
        const request = yield* HttpServerRequest.HttpServerRequest
        const admission = admit(NodeHttpServerRequest.toIncomingMessage(request))
        if (admission._tag === "Refused")
          return framed(request, generalProblem(admission.status, admission.reason))
        const response = yield* answer.pipe(
          Effect.provideService(HttpIncomingMessage.MaxBodySize, largestBody),
          actingAs("admin", admission.address),
          Effect.catchCause((cause): Effect.Effect<HttpServerResponse.HttpServerResponse, Types.unhandled> =>
            Cause.hasInterruptsOnly(cause) ? Effect.failCause(cause as Cause.Cause<Types.unhandled>) : refusal(cause)
          )
        )
        return framed(request, asProblem(request, response))
      })
  }),
  { global: true }
)

/** What an endpoint has not foreseen: a body that cannot be read, a path that is not there, or a defect, whose cause is logged. */
const refusal = Effect.fnUntraced(function*(cause: Cause.Cause<unknown>) {
  const [response] = yield* HttpServerError.causeResponse(cause)
  if (response.status >= 500) yield* Effect.logError("a request failed inside", cause)
  return response
})

/** Refusals that came about below the API's schemas have no body yet, or one of plain text. */
function asProblem(
  request: HttpServerRequest.HttpServerRequest,
  response: HttpServerResponse.HttpServerResponse
): HttpServerResponse.HttpServerResponse {
  if (response.status < 400 || response.headers["content-type"] === ProblemDetails.contentType) return response
  const allowed = response.status === 404 ? allowedMethods(request.url) : []
  if (allowed.length === 0 || allowed.includes(request.method)) return generalProblem(response.status)
  return HttpServerResponse.setHeader(generalProblem(405), "allow", allowed.join(", "))
}

/** No answer may be kept, guessed at or shown in a frame; there are no CORS headers, so no page of another origin reads one. */
function framed(
  request: HttpServerRequest.HttpServerRequest,
  response: HttpServerResponse.HttpServerResponse
): HttpServerResponse.HttpServerResponse {
  return HttpServerResponse.setHeaders(response, {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": request.url.startsWith("/docs")
      ? documentPolicy
      : "default-src 'none'; frame-ancestors 'none'",
    ...(response.status === 401 ? { "www-authenticate": "Bearer" } : {}),
    ...(response.status === 429 || response.status === 503 ? { "retry-after": retryAfter } : {})
  })
}

/** The page carries its script and styles in itself; a token that is typed into it goes nowhere but here. */
const documentPolicy =
  "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self'; form-action 'none'; frame-ancestors 'none'"
