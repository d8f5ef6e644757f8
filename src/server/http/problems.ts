/** Maps errors of services to problem details (RFC 9457). */
import { redactKeys } from "#crypto/apiKeys.ts"
import type { ExpiryInPast, TokenNotFound } from "#services/AdminTokens.ts"
import { type AgentHasTunnels, AgentNotFound, type NameTaken, type NetworkPoolExhausted } from "#services/Agents.ts"
import type { CertificateNotFound, CertificateRejected } from "#services/Certificates.ts"
import { type KeyNotFound, OwnerNotFound, type TooManyKeys } from "#services/ApiKeys.ts"
import type { TooManyFollowers } from "#events/Events.ts"
import { GatewayNotFound, type NoSuchAgentInScope } from "#services/Gateways.ts"
import * as Problem from "#schema/problems.ts"
import type { StoreUnavailable } from "#store/sql.ts"
import type { UnreadableRow } from "#store/UnreadableRow.ts"
import type {
  DomainTaken,
  ListenPortTaken,
  NoSuchAgent,
  TunnelNameTaken,
  TunnelNotFound,
  TunnelRejected
} from "#services/Tunnels.ts"
import type { KeyNotEverywhere, KeyNotGenerated } from "#services/MasterKeys.ts"
import { type HttpServerResponse, ProblemDetails } from "effect/http"

const problemsByTag = {
  AgentNotFound: ({ message }: AgentNotFound) => new Problem.AgentNotFound({ detail: message }),
  AgentHasTunnels: ({ message }: AgentHasTunnels) => new Problem.AgentHasTunnels({ detail: message }),
  NameTaken: ({ message }: NameTaken) => new Problem.NameTaken({ detail: message }),
  NetworkPoolExhausted: ({ message }: NetworkPoolExhausted) => new Problem.NetworkPoolExhausted({ detail: message }),
  GatewayNotFound: ({ message }: GatewayNotFound) => new Problem.GatewayNotFound({ detail: message }),
  TunnelNotFound: ({ message }: TunnelNotFound) => new Problem.TunnelNotFound({ detail: message }),
  DomainTaken: ({ message }: DomainTaken) => new Problem.DomainTaken({ detail: message }),
  TunnelNameTaken: ({ message }: TunnelNameTaken) => new Problem.NameTaken({ detail: message }),
  ListenPortTaken: ({ message }: ListenPortTaken) => new Problem.ListenPortTaken({ detail: message }),
  TunnelRejected: ({ message }: TunnelRejected) => new Problem.TunnelRejected({ detail: message }),
  NoSuchAgent: ({ message }: NoSuchAgent) => new Problem.NoSuchAgent({ detail: message }),
  NoSuchAgentInScope: ({ message }: NoSuchAgentInScope) => new Problem.NoSuchAgent({ detail: message }),
  CertificateNotFound: ({ message }: CertificateNotFound) => new Problem.CertificateNotFound({ detail: message }),
  CertificateRejected: ({ message }: CertificateRejected) => new Problem.CertificateRejected({ detail: message }),
  KeyNotFound: ({ message }: KeyNotFound) => new Problem.KeyNotFound({ detail: message }),
  TooManyKeys: ({ message }: TooManyKeys) => new Problem.TooManyKeys({ detail: message }),
  TokenNotFound: ({ message }: TokenNotFound) => new Problem.TokenNotFound({ detail: message }),
  ExpiryInPast: ({ message }: ExpiryInPast) => new Problem.ExpiryPast({ detail: message }),
  TooManyFollowers: ({ message }: TooManyFollowers) => new Problem.TooManyFollowers({ detail: message }),
  KeyNotEverywhere: ({ message }: KeyNotEverywhere) => new Problem.KeyNotEverywhere({ detail: message }),
  KeyNotGenerated: ({ message }: KeyNotGenerated) => new Problem.KeyNotGenerated({ detail: message }),
  UnreadableRow: ({ message }: UnreadableRow) => new Problem.UnreadableRow({ detail: message }),
  StoreUnavailable: ({ message }: StoreUnavailable) => new Problem.StoreUnavailable({ detail: message })
}

type ProblemsByTag = typeof problemsByTag
type DomainError = Parameters<ProblemsByTag[keyof ProblemsByTag]>[0]
type ProblemOf<E extends DomainError> = { [Tag in E["_tag"]]: ReturnType<ProblemsByTag[Tag]> }[E["_tag"]]

/** Typed error of a service → its problem. The detail may quote the request, except API keys. */
export const problemOf = <E extends DomainError>(error: E): ProblemOf<E> => {
  const toProblem: (error: never) => DomainProblem = problemsByTag[error._tag]
  return toProblem({ message: redactKeys(error.message) } as never) as ProblemOf<E>
}

type DomainProblem = ReturnType<ProblemsByTag[keyof ProblemsByTag]>

/** `problemOf` for key endpoints: a missing owner becomes the problem of the owner's own endpoint. */
export const apiKeyProblemOf = {
  agent: <E extends DomainError>(error: E | OwnerNotFound) =>
    error instanceof OwnerNotFound
      ? problemOf(new AgentNotFound({ id: error.id }))
      : problemOf(error),
  gateway: <E extends DomainError>(error: E | OwnerNotFound) =>
    error instanceof OwnerNotFound
      ? problemOf(new GatewayNotFound({ id: error.id }))
      : problemOf(error)
}

/** Problem of an error response without an endpoint, chosen by status. Other statuses get a generic problem. */
export const problemForStatus = (status: number, detail?: string): HttpServerResponse.HttpServerResponse => {
  const { title, type } = isGeneral(status)
    ? Problem.generalProblems[status]
    : { type: "about:blank", title: "Request rejected" }
  return ProblemDetails.toResponse({ type, title, status, ...(detail === undefined ? {} : { detail }) })
}

function isGeneral(status: number): status is keyof typeof Problem.generalProblems {
  return Object.hasOwn(Problem.generalProblems, status)
}
