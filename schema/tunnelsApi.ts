/** HTTP API endpoints for tunnels. */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import {
  Authorization,
  changeResponse,
  createdResponse,
  deletedResponse,
  describeEndpoint,
  listEndpoint,
  TunnelIdInPath,
  Validation
} from "./apiParts.ts"
import { waitQuery } from "./delivery.ts"
import * as Problem from "./problems.ts"
import * as Resource from "./resources.ts"

const tunnel = { id: TunnelIdInPath }

const ChangedTunnel = changeResponse(Resource.Tunnel, "ChangedTunnel")

export class TunnelsGroup extends HttpApiGroup.make("tunnels").add(
  HttpApiEndpoint.post("create", "/api/tunnels", {
    query: waitQuery,
    payload: Resource.NewTunnel,
    success: createdResponse(ChangedTunnel),
    error: [Problem.DomainTaken, Problem.NoSuchAgent, Problem.StoreUnavailable]
  }).annotateMerge(
    describeEndpoint(
      "operate",
      "Create a tunnel",
      "Control sends the tunnel to its agent and to every gateway that serves it."
    )
  ),
  listEndpoint("/api/tunnels", Resource.Tunnel, "List tunnels"),
  HttpApiEndpoint.get("get", "/api/tunnels/:id", {
    params: tunnel,
    success: Resource.Tunnel,
    error: [Problem.TunnelNotFound, Problem.UnreadableRow, Problem.StoreUnavailable]
  }).annotateMerge(describeEndpoint("read", "Get a tunnel")),
  HttpApiEndpoint.patch("update", "/api/tunnels/:id", {
    params: tunnel,
    query: waitQuery,
    payload: Resource.TunnelPatch,
    success: ChangedTunnel,
    error: [
      Problem.TunnelNotFound,
      Problem.DomainTaken,
      Problem.NoSuchAgent,
      Problem.UnreadableRow,
      Problem.StoreUnavailable
    ]
  }).annotateMerge(describeEndpoint("operate", "Change a tunnel", "Omitted fields keep their values.")),
  HttpApiEndpoint.delete("remove", "/api/tunnels/:id", {
    params: tunnel,
    query: waitQuery,
    success: deletedResponse,
    error: [Problem.TunnelNotFound, Problem.StoreUnavailable]
  }).annotateMerge(describeEndpoint("operate", "Delete a tunnel"))
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Tunnels" })) {}
