/** HTTP API endpoints for the API keys of agents and of gateways. */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import {
  Authorization,
  changeResponse,
  createdResponse,
  deletedResponse,
  describeEndpoint,
  Validation
} from "./apiParts.ts"
import { waitQuery } from "./delivery.ts"
import * as Problem from "./problems.ts"
import * as Pagination from "./pagination.ts"
import * as Resource from "./resources.ts"

const agent = { id: Resource.AgentReference }
const gateway = { id: Resource.GatewayReference }

const CreatedKey = changeResponse(Resource.CreatedKey, "CreatedKey")

const keyEndpoints = {
  list: describeEndpoint("read", "List API keys", "Keys without their secrets."),
  create: describeEndpoint(
    "operate",
    "Create a second API key",
    "Allows a key change without an interruption. A client has at most two API keys."
  ),
  remove: describeEndpoint("operate", "Revoke an API key", "Closes the connections that use the key.")
}

export class AgentKeysGroup extends HttpApiGroup.make("agentKeys").add(
  HttpApiEndpoint.get("list", "/api/agents/:id/keys", {
    params: agent,
    success: Pagination.pageOf(Resource.Key),
    error: [Problem.AgentNotFound, Problem.StoreUnavailable]
  }).annotateMerge(keyEndpoints.list),
  HttpApiEndpoint.post("create", "/api/agents/:id/keys", {
    params: agent,
    query: waitQuery,
    success: createdResponse(CreatedKey),
    error: [Problem.AgentNotFound, Problem.TooManyKeys, Problem.StoreUnavailable]
  }).annotateMerge(keyEndpoints.create),
  HttpApiEndpoint.delete("remove", "/api/agents/:id/keys/:keyId", {
    params: { ...agent, keyId: Resource.KeyIdInput },
    query: waitQuery,
    success: deletedResponse,
    error: [Problem.AgentNotFound, Problem.KeyNotFound, Problem.StoreUnavailable]
  }).annotateMerge(keyEndpoints.remove)
).middleware(Validation).middleware(Authorization).annotateMerge(
  OpenApi.annotations({ title: "API keys of agents" })
) {}

export class GatewayKeysGroup extends HttpApiGroup.make("gatewayKeys").add(
  HttpApiEndpoint.get("list", "/api/gateways/:id/keys", {
    params: gateway,
    success: Pagination.pageOf(Resource.Key),
    error: [Problem.GatewayNotFound, Problem.StoreUnavailable]
  }).annotateMerge(keyEndpoints.list),
  HttpApiEndpoint.post("create", "/api/gateways/:id/keys", {
    params: gateway,
    query: waitQuery,
    success: createdResponse(CreatedKey),
    error: [Problem.GatewayNotFound, Problem.TooManyKeys, Problem.StoreUnavailable]
  }).annotateMerge(keyEndpoints.create),
  HttpApiEndpoint.delete("remove", "/api/gateways/:id/keys/:keyId", {
    params: { ...gateway, keyId: Resource.KeyIdInput },
    query: waitQuery,
    success: deletedResponse,
    error: [Problem.GatewayNotFound, Problem.KeyNotFound, Problem.StoreUnavailable]
  }).annotateMerge(keyEndpoints.remove)
).middleware(Validation).middleware(Authorization).annotateMerge(
  OpenApi.annotations({ title: "API keys of gateways" })
) {}
