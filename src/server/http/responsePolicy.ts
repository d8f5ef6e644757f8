/** Applies to every response: request checks, security headers, and problem details for errors (RFC 9457). */
import { makeRequestCheck } from "#ingress/requestCheck.ts"
import { currentLimits } from "#ingress/connectionLimits.ts"
import { localAddress } from "#ingress/localSockets.ts"
import { Quota } from "#rateLimit/Quota.ts"
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
import { problemForStatus } from "./problems.ts"

const maxBodySize = ByteSize.mebibytes(1)

/** Seconds. Typical time of a database failover. */
const retryAfterSeconds = "5"

export const layer = HttpRouter.middleware(
  Effect.gen(function*() {
    const checkRequest = makeRequestCheck("api", yield* Settings)
    const { places } = (yield* currentLimits).api
    const ofPort = new Quota(places)
    // A flood of the port, also one from this machine, takes no place of the Unix socket.
    const ofSocket = new Quota({ total: places.perHolder, perHolder: places.perHolder })
    return (handler: Effect.Effect<HttpServerResponse.HttpServerResponse, Types.unhandled>) =>
      Effect.gen(function*() {
        const request = yield* HttpServerRequest.HttpServerRequest
        const verdict = checkRequest(NodeHttpServerRequest.toIncomingMessage(request))
        if (verdict._tag === "Rejected")
          return addPolicyHeaders(request, problemForStatus(verdict.status, verdict.reason))
        // Pipelined requests of one connection run at the same time, so that the limit of connections does not bound them.
        const requests = verdict.address === localAddress ? ofSocket : ofPort
        const release = requests.tryAcquire(verdict.address, { mayUseReserve: verdict.isLocal })
        if (release === undefined) return addPolicyHeaders(request, tooManyRequests(requests, verdict.address))
        yield* Effect.addFinalizer(() => Effect.sync(release))
        const response = yield* handler.pipe(
          Effect.provideService(HttpIncomingMessage.MaxBodySize, maxBodySize),
          actingAs("admin", verdict.address),
          Effect.catchCause((cause): Effect.Effect<HttpServerResponse.HttpServerResponse, Types.unhandled> =>
            Cause.hasInterruptsOnly(cause)
              ? Effect.failCause(cause as Cause.Cause<Types.unhandled>)
              : errorResponse(cause)
          )
        )
        return addPolicyHeaders(request, asProblem(request, response))
      })
  }),
  { global: true }
)

function tooManyRequests(requests: Quota, address: string): HttpServerResponse.HttpServerResponse {
  const { perHolder, reserved, total } = requests.limits
  return requests.isHolderAtLimit(address)
    ? problemForStatus(429, `${perHolder} requests of ${address} are in progress, the maximum of one address`)
    : problemForStatus(503, `${total - reserved} requests are in progress, the maximum of this node`)
}

/**
 * Response to an error that has no specific problem: an unreadable body, an unknown path, or a defect. Defects are
 * logged.
 */
const errorResponse = Effect.fnUntraced(function*(cause: Cause.Cause<unknown>) {
  const [response] = yield* HttpServerError.causeResponse(cause)
  if (response.status >= 500) yield* Effect.logError("internal error while handling a request", cause)
  return response
})

/** Replaces error responses from below the API's schemas, which have no body or plain text. */
function asProblem(
  request: HttpServerRequest.HttpServerRequest,
  response: HttpServerResponse.HttpServerResponse
): HttpServerResponse.HttpServerResponse {
  if (response.status < 400 || response.headers["content-type"] === ProblemDetails.contentType) return response
  const allowed = response.status === 404 ? allowedMethods(request.url) : []
  if (allowed.length === 0 || allowed.includes(request.method)) return problemForStatus(response.status)
  return HttpServerResponse.setHeader(problemForStatus(405), "allow", allowed.join(", "))
}

/** Forbids MIME sniffing, framing, and caching except where the handler allows it. Without CORS headers no page of another origin can read a response. */
function addPolicyHeaders(
  request: HttpServerRequest.HttpServerRequest,
  response: HttpServerResponse.HttpServerResponse
): HttpServerResponse.HttpServerResponse {
  return HttpServerResponse.setHeaders(response, {
    "cache-control": response.headers["cache-control"] ?? "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": request.url.startsWith("/docs")
      ? docsContentSecurityPolicy
      : "default-src 'none'; frame-ancestors 'none'",
    ...(response.status === 401 ? { "www-authenticate": "Bearer" } : {}),
    ...(response.status === 429 || response.status === 503 ? { "retry-after": retryAfterSeconds } : {})
  })
}

/** Swagger UI sets inline styles and contains its images. `connect-src` sends a typed token to this server only. */
const docsContentSecurityPolicy =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
