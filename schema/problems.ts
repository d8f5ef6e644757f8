/** Errors of the HTTP API as problem details (RFC 9457); their types stay the same between versions. */
import { Schema } from "effect"
import { HttpApiError } from "effect/http-api"
import { Role } from "./adminTokens.ts"

const urn = <const Code extends string>(code: Code) => `urn:control:problem:${code}` as const

export class InvalidRequest extends HttpApiError.Problem<InvalidRequest>()("InvalidRequest", {
  type: urn("invalid-request"),
  status: 400,
  title: "The request is invalid"
}, {
  errors: Schema.Array(Schema.Struct({
    in: Schema.Literals(["path", "query", "header", "body"]).annotate({ description: "Part of the request." }),
    path: Schema.String.annotate({
      description: "Path within that part, for example `name`; empty for the whole part."
    }),
    message: Schema.String
  }))
}) {}

export class Unauthorized extends HttpApiError.Problem<Unauthorized>()("Unauthorized", {
  type: urn("unauthorized"),
  status: 401,
  title: "The admin token is missing or invalid"
}) {}

export class RoleTooLow extends HttpApiError.Problem<RoleTooLow>()("RoleTooLow", {
  type: urn("role-too-low"),
  status: 403,
  title: "The role of the admin token does not allow this request"
}, {
  needed: Role.annotate({ description: "Lowest role that allows the request." }),
  held: Role.annotate({ description: "Role of the admin token of this request." })
}) {}

export class TooManyFailures extends HttpApiError.Problem<TooManyFailures>()("TooManyFailures", {
  type: urn("too-many-failures"),
  status: 429,
  title: "Too many requests with an invalid admin token"
}) {}

export class TooManyRequests extends HttpApiError.Problem<TooManyRequests>()("TooManyRequests", {
  type: urn("too-many-requests"),
  status: 429,
  title: "Too many requests of one caller are in progress"
}) {}

export class TokenNotFound extends HttpApiError.Problem<TokenNotFound>()("TokenNotFound", {
  type: urn("token-not-found"),
  status: 404,
  title: "The admin token does not exist"
}) {}

export class ExpiryPast extends HttpApiError.Problem<ExpiryPast>()("ExpiryPast", {
  type: urn("expiry-past"),
  status: 422,
  title: "The expiry time is in the past"
}) {}

export class AgentNotFound extends HttpApiError.Problem<AgentNotFound>()("AgentNotFound", {
  type: urn("agent-not-found"),
  status: 404,
  title: "The agent does not exist"
}) {}

export class GatewayNotFound extends HttpApiError.Problem<GatewayNotFound>()("GatewayNotFound", {
  type: urn("gateway-not-found"),
  status: 404,
  title: "The gateway does not exist"
}) {}

export class TunnelNotFound extends HttpApiError.Problem<TunnelNotFound>()("TunnelNotFound", {
  type: urn("tunnel-not-found"),
  status: 404,
  title: "The tunnel does not exist"
}) {}

export class CertificateNotFound extends HttpApiError.Problem<CertificateNotFound>()("CertificateNotFound", {
  type: urn("certificate-not-found"),
  status: 404,
  title: "The domain has no certificate"
}) {}

export class KeyNotFound extends HttpApiError.Problem<KeyNotFound>()("KeyNotFound", {
  type: urn("key-not-found"),
  status: 404,
  title: "The API key does not exist"
}) {}

export class AgentHasTunnels extends HttpApiError.Problem<AgentHasTunnels>()("AgentHasTunnels", {
  type: urn("agent-has-tunnels"),
  status: 409,
  title: "The agent still has tunnels"
}) {}

export class NameTaken extends HttpApiError.Problem<NameTaken>()("NameTaken", {
  type: urn("name-taken"),
  status: 409,
  title: "Another resource of this type has this name"
}) {}

export class DomainTaken extends HttpApiError.Problem<DomainTaken>()("DomainTaken", {
  type: urn("domain-taken"),
  status: 409,
  title: "Another tunnel uses this domain"
}) {}

export class ListenPortTaken extends HttpApiError.Problem<ListenPortTaken>()("ListenPortTaken", {
  type: urn("listen-port-taken"),
  status: 409,
  title: "Another tunnel uses this public port"
}) {}

export class TunnelRejected extends HttpApiError.Problem<TunnelRejected>()("TunnelRejected", {
  type: urn("tunnel-rejected"),
  status: 422,
  title: "The fields of the tunnel do not fit together"
}) {}

export class TooManyKeys extends HttpApiError.Problem<TooManyKeys>()("TooManyKeys", {
  type: urn("too-many-keys"),
  status: 409,
  title: "The client already has two API keys"
}) {}

export class NetworkPoolExhausted extends HttpApiError.Problem<NetworkPoolExhausted>()("NetworkPoolExhausted", {
  type: urn("network-pool-exhausted"),
  status: 409,
  title: "The network pool has no free subnet"
}) {}

export class NothingHeld extends HttpApiError.Problem<NothingHeld>()("NothingHeld", {
  type: urn("nothing-held"),
  status: 409,
  title: "This timeline has no held update"
}) {}

export class KeyNotEverywhere extends HttpApiError.Problem<KeyNotEverywhere>()("KeyNotEverywhere", {
  type: urn("key-not-everywhere"),
  status: 409,
  title: "Not every node has the master key"
}) {}

export class KeyNotGenerated extends HttpApiError.Problem<KeyNotGenerated>()("KeyNotGenerated", {
  type: urn("key-not-generated"),
  status: 409,
  title: "The server cannot generate a master key"
}) {}

export class UnreadableRow extends HttpApiError.Problem<UnreadableRow>()("UnreadableRow", {
  type: urn("unreadable-row"),
  status: 409,
  title: "The row is unreadable"
}) {}

export class NoSuchAgent extends HttpApiError.Problem<NoSuchAgent>()("NoSuchAgent", {
  type: urn("no-such-agent"),
  status: 422,
  title: "The referenced agent does not exist"
}) {}

export class CertificateRejected extends HttpApiError.Problem<CertificateRejected>()("CertificateRejected", {
  type: urn("certificate-rejected"),
  status: 422,
  title: "The certificate was rejected"
}) {}

export class StoreUnavailable extends HttpApiError.Problem<StoreUnavailable>()("StoreUnavailable", {
  type: urn("store-unavailable"),
  status: 503,
  title: "The database is unavailable"
}) {}

export class TooManyFollowers extends HttpApiError.Problem<TooManyFollowers>()("TooManyFollowers", {
  type: urn("too-many-followers"),
  status: 503,
  title: "Too many event streams are open"
}) {}

export class NotReady extends HttpApiError.Problem<NotReady>()("NotReady", {
  type: urn("not-ready"),
  status: 503,
  title: "The server is not ready"
}) {}

/** Problems by status, for requests that reach no endpoint and for internal errors. */
export const generalProblems = {
  400: { type: urn("bad-request"), title: "The request is malformed" },
  403: { type: urn("forbidden"), title: "The request is forbidden" },
  404: { type: urn("not-found"), title: "The resource does not exist" },
  405: { type: urn("method-not-allowed"), title: "The path does not support this method" },
  413: { type: urn("body-too-large"), title: "The request body is larger than 1 MiB" },
  415: { type: urn("unsupported-media-type"), title: "The request body must be JSON" },
  421: { type: urn("misdirected-request"), title: "The host name is not allowed" },
  429: { type: urn("too-many-requests"), title: "Too many requests of one caller are in progress" },
  500: { type: urn("internal"), title: "Internal server error" },
  503: { type: urn("overloaded"), title: "Too many requests are in progress" }
} as const
