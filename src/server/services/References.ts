/** Resolves the names and ids of requests to ids. An unknown one fails with the name that was probably meant. */
import { AgentId, GatewayId, toAsciiHostName, TunnelId } from "#schema/ids.ts"
import type { ScopeInput, ScopeRequest } from "#schema/resources.ts"
import { NoSuchAgentInScope } from "#store/GatewayStore.ts"
import { type NamedKind, ReferenceStore } from "#store/ReferenceStore.ts"
import type { StoreUnavailable } from "#store/sql.ts"
import { NoSuchAgent } from "#store/TunnelStore.ts"
import { Context, Effect, Layer } from "effect"
import { AgentNotFound } from "./Agents.ts"
import { CertificateNotFound } from "./Certificates.ts"
import { GatewayNotFound } from "./Gateways.ts"
import { nearestName } from "./nearestName.ts"
import { TunnelNotFound } from "./Tunnels.ts"

export class References extends Context.Service<References, {
  /** The agent that a path names. */
  agent(reference: string): Effect.Effect<AgentId, AgentNotFound | StoreUnavailable>
  /** The gateway that a path names. */
  gateway(reference: string): Effect.Effect<GatewayId, GatewayNotFound | StoreUnavailable>
  /** The tunnel that a path names by its id, its domain (`http`, `tls`) or its name. */
  tunnel(reference: string): Effect.Effect<TunnelId, TunnelNotFound | StoreUnavailable>
  /** The agent that a body or a filter names. */
  agentInBody(reference: string): Effect.Effect<AgentId, NoSuchAgent | StoreUnavailable>
  /** The scope with ids. An unknown agent stays as it is, because a scope may keep deleted agents. */
  scope(scope: ScopeRequest): Effect.Effect<ScopeInput, StoreUnavailable>
  /** Fails with the same error and a suggestion. */
  suggestInScope(error: NoSuchAgentInScope): Effect.Effect<never, NoSuchAgentInScope | StoreUnavailable>
  /** Fails with the same error and a suggestion. */
  suggestDomain(error: CertificateNotFound): Effect.Effect<never, CertificateNotFound | StoreUnavailable>
  /** Ids that an entry of the audit can have for this text: the text itself, and each row with this name or domain. */
  audited(reference: string): Effect.Effect<ReadonlyArray<string>, StoreUnavailable>
}>()("control/services/References") {
  static readonly layer = Layer.effect(References, Effect.map(ReferenceStore, makeReferences))
}

function makeReferences(store: ReferenceStore["Service"]): References["Service"] {
  const suggestionFor = (kind: NamedKind, text: string) =>
    Effect.map(store.similarNames(kind, text), (names) => nearestName(text, names))

  const resolveOr = Effect.fnUntraced(
    function*<E>(kind: NamedKind, reference: string, notFound: (suggestion: string | undefined) => E) {
      // A domain can be given in any case and script.
      const texts = kind === "tunnel" ? [reference, toAsciiHostName(reference)] : [reference]
      const ids = yield* store.resolve(kind, texts)
      const id = texts.map((text) => ids.get(text)).find((id) => id !== undefined)
      return id ?? (yield* Effect.fail(notFound(yield* suggestionFor(kind, reference))))
    }
  )

  return References.of({
    agent: Effect.fn("References.agent")((id: string) =>
      Effect.map(resolveOr("agent", id, (suggestion) => new AgentNotFound({ id, suggestion })), agentIdOf)
    ),
    gateway: Effect.fn("References.gateway")((id: string) =>
      resolveOr("gateway", id, (suggestion) => new GatewayNotFound({ id, suggestion })).pipe(
        Effect.map((found) => GatewayId.make(found, unchecked))
      )
    ),
    tunnel: Effect.fn("References.tunnel")((id: string) =>
      resolveOr("tunnel", id, (suggestion) => new TunnelNotFound({ id, suggestion })).pipe(
        Effect.map((found) => TunnelId.make(found, unchecked))
      )
    ),
    agentInBody: Effect.fn("References.agentInBody")((id: string) =>
      Effect.map(resolveOr("agent", id, (suggestion) => new NoSuchAgent({ id, suggestion })), agentIdOf)
    ),
    scope: Effect.fn("References.scope")(function*({ agents, ...domains }: ScopeRequest) {
      if (agents === undefined) return domains
      const ids = yield* store.resolve("agent", agents)
      return { ...domains, agents: agents.map((reference) => agentIdOf(ids.get(reference) ?? reference)) }
    }),
    suggestInScope: ({ id, index }) =>
      Effect.flatMap(suggestionFor("agent", id), (suggestion) => new NoSuchAgentInScope({ id, index, suggestion })),
    suggestDomain: ({ domain }) =>
      Effect.flatMap(
        suggestionFor("certificate", domain),
        (suggestion) => new CertificateNotFound({ domain, suggestion })
      ),
    audited: Effect.fn("References.audited")(function*(reference: string) {
      const found = yield* Effect.forEach(
        ["agent", "gateway", "tunnel"] as const,
        (kind) => store.resolve(kind, [reference])
      )
      return [...new Set([reference, ...found.flatMap((ids) => [...ids.values()])])]
    })
  })
}

/** Another application can have written a longer id, which a request must reach as well. */
const unchecked = { disableChecks: true }
const agentIdOf = (id: string): AgentId => AgentId.make(id, unchecked)
