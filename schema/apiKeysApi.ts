/** The API keys of agents and of gateways as two parts of the API that are alike. */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authorization, changed, created, deleted, says, Validation } from "./apiParts.ts"
import { waitQuery } from "./delivery.ts"
import * as Problem from "./problems.ts"
import * as Resource from "./resources.ts"

const agent = { id: Resource.GivenAgentId }
const gateway = { id: Resource.GivenGatewayId }

const CreatedKey = changed(Resource.CreatedKey, "CreatedKey")

const keyTexts = {
  list: says("read", "List its API keys", "Without their secrets."),
  create: says("operate", "Create a second API key", "To change keys without an interruption: at most two are live."),
  remove: says("operate", "Revoke an API key", "Connections that use it are closed.")
}

export class AgentKeysGroup extends HttpApiGroup.make("agentKeys").add(
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

export class GatewayKeysGroup extends HttpApiGroup.make("gatewayKeys").add(
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
