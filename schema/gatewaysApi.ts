/** Gateways as a part of the API. */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authorization, changed, created, deleted, GatewayIdInPath, list, says, Validation } from "./apiParts.ts"
import { waitQuery } from "./delivery.ts"
import * as Problem from "./problems.ts"
import * as Resource from "./resources.ts"

const gateway = { id: GatewayIdInPath }

export class GatewaysGroup extends HttpApiGroup.make("gateways").add(
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
    error: [Problem.GatewayNotFound, Problem.UnreadableRow, Problem.StoreUnavailable]
  }).annotateMerge(says("read", "Get a gateway")),
  HttpApiEndpoint.patch("update", "/api/gateways/:id", {
    params: gateway,
    query: waitQuery,
    payload: Resource.GatewayPatch,
    success: changed(Resource.Gateway, "ChangedGateway"),
    error: [Problem.GatewayNotFound, Problem.NoSuchAgent, Problem.UnreadableRow, Problem.StoreUnavailable]
  }).annotateMerge(says("operate", "Change a gateway", "What is left out stays.")),
  HttpApiEndpoint.delete("remove", "/api/gateways/:id", {
    params: gateway,
    query: waitQuery,
    success: deleted,
    error: [Problem.GatewayNotFound, Problem.StoreUnavailable]
  }).annotateMerge(says("operate", "Delete a gateway", "Its keys are revoked and its connection is closed."))
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Gateways" })) {}
