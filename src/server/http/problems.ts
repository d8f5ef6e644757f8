/** The one place where what went wrong becomes what is answered (RFC 9457). */
import { withoutKeys } from "#crypto/apiKeys.ts"
import type { ExpiryPast, TokenNotFound } from "#services/AdminTokens.ts"
import type { AgentHasTunnels, AgentNotFound, NetworkPoolExhausted } from "#services/Agents.ts"
import type { CertificateNotFound, CertificateRejected } from "#services/Certificates.ts"
import { type KeyNotFound, OwnerNotFound, type TooManyKeys } from "#services/ApiKeys.ts"
import type { TooManyFollowers } from "#events/Events.ts"
import type { GatewayNotFound, NoSuchAgentInScope } from "#services/Gateways.ts"
import * as Problem from "#schema/problems.ts"
import type { StoreUnavailable } from "#store/sql.ts"
import type { UnreadableRow } from "#store/UnreadableRow.ts"
import type { DomainTaken, NoSuchAgent, TunnelNotFound } from "#services/Tunnels.ts"
import type { KeyNotEverywhere, KeyNotGenerated } from "#services/MasterKeys.ts"
import { type HttpServerResponse, ProblemDetails } from "effect/http"

const table = {
  AgentNotFound: ({ message }: AgentNotFound) => new Problem.AgentNotFound({ detail: message }),
  AgentHasTunnels: ({ message }: AgentHasTunnels) => new Problem.AgentHasTunnels({ detail: message }),
  NetworkPoolExhausted: ({ message }: NetworkPoolExhausted) => new Problem.NetworkPoolExhausted({ detail: message }),
  GatewayNotFound: ({ message }: GatewayNotFound) => new Problem.GatewayNotFound({ detail: message }),
  TunnelNotFound: ({ message }: TunnelNotFound) => new Problem.TunnelNotFound({ detail: message }),
  DomainTaken: ({ message }: DomainTaken) => new Problem.DomainTaken({ detail: message }),
  NoSuchAgent: ({ message }: NoSuchAgent) => new Problem.NoSuchAgent({ detail: message }),
  NoSuchAgentInScope: ({ message }: NoSuchAgentInScope) => new Problem.NoSuchAgent({ detail: message }),
  CertificateNotFound: ({ message }: CertificateNotFound) => new Problem.CertificateNotFound({ detail: message }),
  CertificateRejected: ({ message }: CertificateRejected) => new Problem.CertificateRejected({ detail: message }),
  KeyNotFound: ({ message }: KeyNotFound) => new Problem.KeyNotFound({ detail: message }),
  TooManyKeys: ({ message }: TooManyKeys) => new Problem.TooManyKeys({ detail: message }),
  TokenNotFound: ({ message }: TokenNotFound) => new Problem.TokenNotFound({ detail: message }),
  ExpiryPast: ({ message }: ExpiryPast) => new Problem.ExpiryPast({ detail: message }),
  TooManyFollowers: ({ message }: TooManyFollowers) => new Problem.TooManyFollowers({ detail: message }),
  KeyNotEverywhere: ({ message }: KeyNotEverywhere) => new Problem.KeyNotEverywhere({ detail: message }),
  KeyNotGenerated: ({ message }: KeyNotGenerated) => new Problem.KeyNotGenerated({ detail: message }),
  UnreadableRow: ({ message }: UnreadableRow) => new Problem.UnreadableRow({ detail: message }),
  StoreUnavailable: ({ message }: StoreUnavailable) => new Problem.StoreUnavailable({ detail: message })
}

type Table = typeof table
type DomainError = Parameters<Table[keyof Table]>[0]
type ProblemOf<E extends DomainError> = { [Tag in E["_tag"]]: ReturnType<Table[Tag]> }[E["_tag"]]

/** A failure that a service has foreseen → the problem that answers it. It may name what was asked for; a key in its place it does not. */
export const problemOf = <E extends DomainError>(error: E): ProblemOf<E> => {
  const answer: (error: never) => DomainProblem = table[error._tag]
  return answer({ message: withoutKeys(error.message) } as never) as ProblemOf<E>
}

type DomainProblem = ReturnType<Table[keyof Table]>

/** As `problemOf`; the owner of keys is looked for by another service than its own, and the answer is the same. */
export const keyProblemOf = {
  agent: <E extends DomainError>(error: E | OwnerNotFound) =>
    error instanceof OwnerNotFound
      ? new Problem.AgentNotFound({ detail: withoutKeys(`there is no agent ${error.id}`) })
      : problemOf(error),
  gateway: <E extends DomainError>(error: E | OwnerNotFound) =>
    error instanceof OwnerNotFound
      ? new Problem.GatewayNotFound({ detail: withoutKeys(`there is no gateway ${error.id}`) })
      : problemOf(error)
}

/** A refusal that has no endpoint: by status. A status that the table does not know is told as it is. */
export const generalProblem = (status: number, detail?: string): HttpServerResponse.HttpServerResponse => {
  const { title, type } = isGeneral(status)
    ? Problem.generalProblems[status]
    : { type: "about:blank", title: "Refused" }
  return ProblemDetails.toResponse({ type, title, status, ...(detail === undefined ? {} : { detail }) })
}

function isGeneral(status: number): status is keyof typeof Problem.generalProblems {
  return Object.hasOwn(Problem.generalProblems, status)
}
