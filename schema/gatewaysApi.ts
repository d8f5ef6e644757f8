/** HTTP API endpoints for gateways. */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import {
  Authorization,
  changeResponse,
  createdResponse,
  deletedResponse,
  describeEndpoint,
  listEndpoint,
  Validation
} from "./apiParts.ts"
import { waitQuery } from "./delivery.ts"
import { clientFilters } from "./listFilters.ts"
import * as Problem from "./problems.ts"
import * as Resource from "./resources.ts"

const gateway = { id: Resource.GatewayReference }

export class GatewaysGroup extends HttpApiGroup.make("gateways").add(
  HttpApiEndpoint.post("create", "/api/gateways", {
    query: waitQuery,
    payload: Resource.NewGatewayRequest,
    success: createdResponse(changeResponse(Resource.CreatedGateway, "CreatedGateway")),
    error: [Problem.NameTaken, Problem.NoSuchAgent, Problem.StoreUnavailable]
  }).annotateMerge(
    describeEndpoint("operate", "Create a gateway", "Assigns a WireGuard key pair and the first API key.")
  ),
  listEndpoint("/api/gateways", Resource.Gateway, "List gateways", clientFilters),
  HttpApiEndpoint.get("get", "/api/gateways/:id", {
    params: gateway,
    success: Resource.GatewayDetails,
    error: [Problem.GatewayNotFound, Problem.UnreadableRow, Problem.StoreUnavailable]
  }).annotateMerge(describeEndpoint("read", "Get a gateway")),
  HttpApiEndpoint.patch("update", "/api/gateways/:id", {
    params: gateway,
    query: waitQuery,
    payload: Resource.GatewayPatchRequest,
    success: changeResponse(Resource.Gateway, "ChangedGateway"),
    error: [
      Problem.GatewayNotFound,
      Problem.NameTaken,
      Problem.NoSuchAgent,
      Problem.UnreadableRow,
      Problem.StoreUnavailable
    ]
  }).annotateMerge(describeEndpoint("operate", "Change a gateway", "Omitted fields keep their values.")),
  HttpApiEndpoint.delete("remove", "/api/gateways/:id", {
    params: gateway,
    query: waitQuery,
    success: deletedResponse,
    error: [Problem.GatewayNotFound, Problem.StoreUnavailable]
  }).annotateMerge(
    describeEndpoint("operate", "Delete a gateway", "Revokes the gateway's API keys and closes its connection.")
  )
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Gateways" })) {}
