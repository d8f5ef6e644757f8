/** Everything that the HTTP API may refuse with (RFC 9457): the types stay the same between versions. */
import { Schema } from "effect"
import { HttpApiError } from "effect/http-api"
import { Role } from "./adminTokens.ts"

const urn = <const Code extends string>(code: Code) => `urn:control:problem:${code}` as const

export class InvalidRequest extends HttpApiError.Problem<InvalidRequest>()("InvalidRequest", {
  type: urn("invalid-request"),
  status: 400,
  title: "The request is not valid"
}, {
  errors: Schema.Array(Schema.Struct({
    in: Schema.Literals(["path", "query", "header", "body"]).annotate({ description: "Which part of the request." }),
    path: Schema.String.annotate({ description: "Where in that part, such as `name`; empty for the whole of it." }),
    message: Schema.String
  }))
}) {}

export class Unauthorized extends HttpApiError.Problem<Unauthorized>()("Unauthorized", {
  type: urn("unauthorized"),
  status: 401,
  title: "The admin token is missing or wrong"
}) {}

export class RoleTooLow extends HttpApiError.Problem<RoleTooLow>()("RoleTooLow", {
  type: urn("role-too-low"),
  status: 403,
  title: "The admin token's role does not allow this"
}, {
  needed: Role.annotate({ description: "The lowest role that may." }),
  held: Role.annotate({ description: "The role of the token that was sent." })
}) {}

export class TooManyFailures extends HttpApiError.Problem<TooManyFailures>()("TooManyFailures", {
  type: urn("too-many-failures"),
  status: 429,
  title: "Too many wrong admin tokens are waiting for their answer"
}) {}

export class TokenNotFound extends HttpApiError.Problem<TokenNotFound>()("TokenNotFound", {
  type: urn("token-not-found"),
  status: 404,
  title: "No such admin token"
}) {}

export class ExpiryPast extends HttpApiError.Problem<ExpiryPast>()("ExpiryPast", {
  type: urn("expiry-past"),
  status: 422,
  title: "The admin token would have expired already"
}) {}

export class AgentNotFound extends HttpApiError.Problem<AgentNotFound>()("AgentNotFound", {
  type: urn("agent-not-found"),
  status: 404,
  title: "No such agent"
}) {}

export class GatewayNotFound extends HttpApiError.Problem<GatewayNotFound>()("GatewayNotFound", {
  type: urn("gateway-not-found"),
  status: 404,
  title: "No such gateway"
}) {}

export class TunnelNotFound extends HttpApiError.Problem<TunnelNotFound>()("TunnelNotFound", {
  type: urn("tunnel-not-found"),
  status: 404,
  title: "No such tunnel"
}) {}

export class CertificateNotFound extends HttpApiError.Problem<CertificateNotFound>()("CertificateNotFound", {
  type: urn("certificate-not-found"),
  status: 404,
  title: "No certificate for this domain"
}) {}

export class KeyNotFound extends HttpApiError.Problem<KeyNotFound>()("KeyNotFound", {
  type: urn("key-not-found"),
  status: 404,
  title: "No such key"
}) {}

export class AgentHasTunnels extends HttpApiError.Problem<AgentHasTunnels>()("AgentHasTunnels", {
  type: urn("agent-has-tunnels"),
  status: 409,
  title: "The agent has tunnels"
}) {}

export class DomainTaken extends HttpApiError.Problem<DomainTaken>()("DomainTaken", {
  type: urn("domain-taken"),
  status: 409,
  title: "The domain belongs to another tunnel"
}) {}

export class TooManyKeys extends HttpApiError.Problem<TooManyKeys>()("TooManyKeys", {
  type: urn("too-many-keys"),
  status: 409,
  title: "Two keys are live already"
}) {}

export class NetworkPoolExhausted extends HttpApiError.Problem<NetworkPoolExhausted>()("NetworkPoolExhausted", {
  type: urn("network-pool-exhausted"),
  status: 409,
  title: "No subnet is free"
}) {}

export class NothingHeld extends HttpApiError.Problem<NothingHeld>()("NothingHeld", {
  type: urn("nothing-held"),
  status: 409,
  title: "Nothing of this timeline is held back"
}) {}

export class KeyNotEverywhere extends HttpApiError.Problem<KeyNotEverywhere>()("KeyNotEverywhere", {
  type: urn("key-not-everywhere"),
  status: 409,
  title: "Not every process has the master key"
}) {}

export class KeyNotGenerated extends HttpApiError.Problem<KeyNotGenerated>()("KeyNotGenerated", {
  type: urn("key-not-generated"),
  status: 409,
  title: "No master key can be made here now"
}) {}

export class UnreadableRow extends HttpApiError.Problem<UnreadableRow>()("UnreadableRow", {
  type: urn("unreadable-row"),
  status: 409,
  title: "The row cannot be read"
}) {}

export class NoSuchAgent extends HttpApiError.Problem<NoSuchAgent>()("NoSuchAgent", {
  type: urn("no-such-agent"),
  status: 422,
  title: "The agent does not exist"
}) {}

export class CertificateRejected extends HttpApiError.Problem<CertificateRejected>()("CertificateRejected", {
  type: urn("certificate-rejected"),
  status: 422,
  title: "The certificate is not fit for use"
}) {}

export class StoreUnavailable extends HttpApiError.Problem<StoreUnavailable>()("StoreUnavailable", {
  type: urn("store-unavailable"),
  status: 503,
  title: "The database cannot be used"
}) {}

export class TooManyFollowers extends HttpApiError.Problem<TooManyFollowers>()("TooManyFollowers", {
  type: urn("too-many-followers"),
  status: 503,
  title: "Too many follow the events"
}) {}

export class NotReady extends HttpApiError.Problem<NotReady>()("NotReady", {
  type: urn("not-ready"),
  status: 503,
  title: "Not ready to serve"
}) {}

/** What is refused before an endpoint is found, or after it has failed inside: by status. */
export const generalProblems = {
  400: { type: urn("bad-request"), title: "The request cannot be read" },
  403: { type: urn("forbidden"), title: "This may not be asked in this way" },
  404: { type: urn("not-found"), title: "There is nothing here" },
  405: { type: urn("method-not-allowed"), title: "This method is not for this path" },
  413: { type: urn("body-too-large"), title: "The body is larger than 1 MiB" },
  415: { type: urn("unsupported-media-type"), title: "The body must be JSON" },
  421: { type: urn("misdirected-request"), title: "This server does not go by that name" },
  500: { type: urn("internal"), title: "The server failed inside" }
} as const
