/** The HTTP API as one value: what may be asked, what is answered, what is refused. Handlers, documents and clients follow it. */
import { Schema } from "effect"
import { HttpApi, HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { Authorization, changed, created, deleted, list, listQuery, says, Validation } from "./apiParts.ts"
import { AuditPage, auditQuery } from "./audit.ts"
import { waitQuery } from "./delivery.ts"
import { SentEvent } from "./events.ts"
import { HostNameFromInput } from "./ids.ts"
import { MasterKeyGroup } from "./masterKeyApi.ts"
import { NetworkGroup } from "./networkApi.ts"
import { NodesGroup } from "./nodesApi.ts"
import * as Problem from "./problems.ts"
import * as Resource from "./resources.ts"
import { TokensGroup } from "./tokensApi.ts"
import { BackupGroup, DoctorGroup } from "./upkeepApi.ts"

const agent = { id: Resource.GivenAgentId }
const gateway = { id: Resource.GivenGatewayId }
const tunnel = { id: Resource.GivenTunnelId }

class Agents extends HttpApiGroup.make("agents").add(
  HttpApiEndpoint.post("create", "/api/agents", {
    query: waitQuery,
    payload: Resource.NewAgent,
    success: created(changed(Resource.CreatedAgent, "CreatedAgent")),
    error: [Problem.NetworkPoolExhausted, Problem.StoreUnavailable]
  }).annotateMerge(
    says("operate", "Create an agent", "Gives it a subnet, a WireGuard key pair, and its first API key.")
  ),
  list("/api/agents", Resource.Agent, "List agents"),
  HttpApiEndpoint.get("get", "/api/agents/:id", {
    params: agent,
    success: Resource.Agent,
    error: [Problem.AgentNotFound, Problem.StoreUnavailable]
  }).annotateMerge(says("read", "Get an agent")),
  HttpApiEndpoint.patch("update", "/api/agents/:id", {
    params: agent,
    query: waitQuery,
    payload: Resource.AgentPatch,
    success: changed(Resource.Agent, "ChangedAgent"),
    error: [Problem.AgentNotFound, Problem.StoreUnavailable]
  }).annotateMerge(says("operate", "Change an agent", "What is left out stays.")),
  HttpApiEndpoint.delete("remove", "/api/agents/:id", {
    params: agent,
    query: {
      ...waitQuery,
      cascade: Schema.optionalKey(Schema.Literals(["true", "false"])).annotate({
        description: "`true`: delete its tunnels with it. Else an agent that has tunnels is kept."
      })
    },
    success: deleted,
    error: [Problem.AgentNotFound, Problem.AgentHasTunnels, Problem.StoreUnavailable]
  }).annotateMerge(says("operate", "Delete an agent", "Its keys are revoked and its connection is closed."))
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Agents" })) {}

class Gateways extends HttpApiGroup.make("gateways").add(
  HttpApiEndpoint.post("create", "/api/gateways", {
    query: waitQuery,
    payload: Resource.NewGateway,
    success: created(changed(Resource.CreatedGateway, "CreatedGateway")),
    error: [Problem.NoSuchAgent, Problem.StoreUnavailable]
  }).annotateMerge(says("operate", "Create a gateway", "Gives it a WireGuard key pair and its first API key.")),
  list("/api/gateways", Resource.Gateway, "List gateways"),
  HttpApiEndpoint.get("get", "/api/gateways/:id", {
    params: gateway,
    success: Resource.Gateway,
    error: [Problem.GatewayNotFound, Problem.StoreUnavailable]
  }).annotateMerge(says("read", "Get a gateway")),
  HttpApiEndpoint.patch("update", "/api/gateways/:id", {
    params: gateway,
    query: waitQuery,
    payload: Resource.GatewayPatch,
    success: changed(Resource.Gateway, "ChangedGateway"),
    error: [Problem.GatewayNotFound, Problem.NoSuchAgent, Problem.StoreUnavailable]
  }).annotateMerge(says("operate", "Change a gateway", "What is left out stays.")),
  HttpApiEndpoint.delete("remove", "/api/gateways/:id", {
    params: gateway,
    query: waitQuery,
    success: deleted,
    error: [Problem.GatewayNotFound, Problem.StoreUnavailable]
  }).annotateMerge(says("operate", "Delete a gateway", "Its keys are revoked and its connection is closed."))
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Gateways" })) {}

const CreatedKey = changed(Resource.CreatedKey, "CreatedKey")

const keyTexts = {
  list: says("read", "List its API keys", "Without their secrets."),
  create: says("operate", "Create a second API key", "To change keys without an interruption: at most two are live."),
  remove: says("operate", "Revoke an API key", "Connections that use it are closed.")
}

class AgentKeys extends HttpApiGroup.make("agentKeys").add(
  HttpApiEndpoint.get("list", "/api/agents/:id/keys", {
    params: agent,
    success: Resource.pageOf(Resource.Key),
    error: [Problem.AgentNotFound, Problem.StoreUnavailable]
  }).annotateMerge(keyTexts.list),
  HttpApiEndpoint.post("create", "/api/agents/:id/keys", {
    params: agent,
    query: waitQuery,
    success: created(CreatedKey),
    error: [Problem.AgentNotFound, Problem.TooManyKeys, Problem.StoreUnavailable]
  }).annotateMerge(keyTexts.create),
  HttpApiEndpoint.delete("remove", "/api/agents/:id/keys/:keyId", {
    params: { ...agent, keyId: Resource.GivenKeyId },
    query: waitQuery,
    success: deleted,
    error: [Problem.AgentNotFound, Problem.KeyNotFound, Problem.StoreUnavailable]
  }).annotateMerge(keyTexts.remove)
).middleware(Validation).middleware(Authorization).annotateMerge(
  OpenApi.annotations({ title: "API keys of agents" })
) {}

class GatewayKeys extends HttpApiGroup.make("gatewayKeys").add(
  HttpApiEndpoint.get("list", "/api/gateways/:id/keys", {
    params: gateway,
    success: Resource.pageOf(Resource.Key),
    error: [Problem.GatewayNotFound, Problem.StoreUnavailable]
  }).annotateMerge(keyTexts.list),
  HttpApiEndpoint.post("create", "/api/gateways/:id/keys", {
    params: gateway,
    query: waitQuery,
    success: created(CreatedKey),
    error: [Problem.GatewayNotFound, Problem.TooManyKeys, Problem.StoreUnavailable]
  }).annotateMerge(keyTexts.create),
  HttpApiEndpoint.delete("remove", "/api/gateways/:id/keys/:keyId", {
    params: { ...gateway, keyId: Resource.GivenKeyId },
    query: waitQuery,
    success: deleted,
    error: [Problem.GatewayNotFound, Problem.KeyNotFound, Problem.StoreUnavailable]
  }).annotateMerge(keyTexts.remove)
).middleware(Validation).middleware(Authorization).annotateMerge(
  OpenApi.annotations({ title: "API keys of gateways" })
) {}

const ChangedTunnel = changed(Resource.Tunnel, "ChangedTunnel")

class Tunnels extends HttpApiGroup.make("tunnels").add(
  HttpApiEndpoint.post("create", "/api/tunnels", {
    query: waitQuery,
    payload: Resource.NewTunnel,
    success: created(ChangedTunnel),
    error: [Problem.DomainTaken, Problem.NoSuchAgent, Problem.StoreUnavailable]
  }).annotateMerge(
    says("operate", "Create a tunnel", "It is on its way to its agent and every gateway when this answers.")
  ),
  list("/api/tunnels", Resource.Tunnel, "List tunnels"),
  HttpApiEndpoint.get("get", "/api/tunnels/:id", {
    params: tunnel,
    success: Resource.Tunnel,
    error: [Problem.TunnelNotFound, Problem.StoreUnavailable]
  }).annotateMerge(says("read", "Get a tunnel")),
  HttpApiEndpoint.patch("update", "/api/tunnels/:id", {
    params: tunnel,
    query: waitQuery,
    payload: Resource.TunnelPatch,
    success: ChangedTunnel,
    error: [Problem.TunnelNotFound, Problem.DomainTaken, Problem.NoSuchAgent, Problem.StoreUnavailable]
  }).annotateMerge(says("operate", "Change a tunnel", "What is left out stays.")),
  HttpApiEndpoint.delete("remove", "/api/tunnels/:id", {
    params: tunnel,
    query: waitQuery,
    success: deleted,
    error: [Problem.TunnelNotFound, Problem.StoreUnavailable]
  }).annotateMerge(says("operate", "Delete a tunnel"))
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Tunnels" })) {}

const domain = { domain: HostNameFromInput }

class Certificates extends HttpApiGroup.make("certificates").add(
  list("/api/certificates", Resource.Certificate, "List certificates"),
  HttpApiEndpoint.get("get", "/api/certificates/:domain", {
    params: domain,
    success: Resource.Certificate,
    error: [Problem.CertificateNotFound, Problem.StoreUnavailable]
  }).annotateMerge(says("read", "Get a certificate", "Without its private key.")),
  HttpApiEndpoint.put("put", "/api/certificates/:domain", {
    params: domain,
    query: waitQuery,
    payload: Resource.CertificatePut,
    success: changed(Resource.Certificate, "ChangedCertificate"),
    error: [Problem.CertificateRejected, Problem.StoreUnavailable]
  }).annotateMerge(
    says("operate", "Store a certificate", "Replaces the one of this domain, if there is one; 200 either way.")
  ),
  HttpApiEndpoint.delete("remove", "/api/certificates/:domain", {
    params: domain,
    query: waitQuery,
    success: deleted,
    error: [Problem.CertificateNotFound, Problem.StoreUnavailable]
  }).annotateMerge(says("operate", "Delete a certificate"))
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Certificates" })) {}

class Clients extends HttpApiGroup.make("clients").add(
  HttpApiEndpoint.get("list", "/api/clients", {
    query: listQuery,
    success: Resource.pageOf(Resource.ConnectedClient),
    error: Problem.StoreUnavailable
  }).annotateMerge(says("read", "List who is connected", "To any node, in the order of their connecting."))
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Connected clients" })) {}

class Audit extends HttpApiGroup.make("audit").add(
  HttpApiEndpoint.get("list", "/api/audit", {
    query: auditQuery,
    success: AuditPage,
    error: Problem.StoreUnavailable
  }).annotateMerge(
    says("read", "List who changed what", "The newest first; also what was written to the database directly.")
  )
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Audit" })) {}

const lastEventId = Schema.String.check(Schema.isMaxLength(256)).annotate({
  description: "The id of the last event that was seen: go on after it."
})

class Events extends HttpApiGroup.make("events").add(
  HttpApiEndpoint.get("follow", "/api/events", {
    query: { lastEventId: Schema.optionalKey(lastEventId) },
    headers: { "last-event-id": Schema.optionalKey(lastEventId) },
    success: HttpApiSchema.StreamSse({ events: SentEvent }),
    error: Problem.TooManyFollowers
  }).annotateMerge(says(
    "read",
    "Follow what happens",
    "Server-sent events (WHATWG HTML, section 9.2), a comment every 15 seconds. `change` is told of every committed change; " +
      "the others of the clients of this process. Where events may be missing there is a `reset`: read the lists anew."
  ))
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Events" })) {}

class Health extends HttpApiGroup.make("health").add(
  HttpApiEndpoint.get("live", "/healthz", { success: Schema.Struct({ status: Schema.Literal("ok") }) })
    .annotateMerge(says("anyone", "Is the process alive?", "200, whatever else is wrong.")),
  HttpApiEndpoint.get("ready", "/readyz", {
    success: Schema.Struct({ status: Schema.Literal("ok") }),
    error: Problem.NotReady
  }).annotateMerge(
    says("anyone", "Can it serve?", "200 when the database answers and the feed of changes is caught up.")
  ),
  HttpApiEndpoint.get("metrics", "/metrics", {
    success: Schema.String.pipe(HttpApiSchema.asText({ contentType: "text/plain; version=0.0.4; charset=utf-8" }))
  }).annotateMerge(says("anyone", "Figures for Prometheus"))
).annotateMerge(OpenApi.annotations({ title: "Health" })) {}

export class Api extends HttpApi.make("control")
  .add(
    Agents,
    AgentKeys,
    Gateways,
    GatewayKeys,
    Tunnels,
    Certificates,
    Clients,
    Audit,
    TokensGroup,
    Events,
    NetworkGroup,
    Health
  )
  .add(NodesGroup, BackupGroup, DoctorGroup, MasterKeyGroup)
  .annotate(HttpApi.QueryParseOptions, { onExcessProperty: "error", errors: "all" })
  .annotate(HttpApi.PayloadParseOptions, { onExcessProperty: "error", errors: "all" })
  .annotateMerge(OpenApi.annotations({
    title: "Control",
    version: "1",
    description: "The operators' side of the control plane: agents, gateways, tunnels, certificates and keys. " +
      "Every refusal is `application/problem+json` (RFC 9457) with a `type` that stays the same between versions."
  }))
{}
