/** Tunnels as a part of the API. */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authorization, changed, created, deleted, list, says, TunnelIdInPath, Validation } from "./apiParts.ts"
import { waitQuery } from "./delivery.ts"
import * as Problem from "./problems.ts"
import * as Resource from "./resources.ts"

const tunnel = { id: TunnelIdInPath }

const ChangedTunnel = changed(Resource.Tunnel, "ChangedTunnel")

export class TunnelsGroup extends HttpApiGroup.make("tunnels").add(
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
    error: [Problem.TunnelNotFound, Problem.UnreadableRow, Problem.StoreUnavailable]
  }).annotateMerge(says("read", "Get a tunnel")),
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
  }).annotateMerge(says("operate", "Change a tunnel", "What is left out stays.")),
  HttpApiEndpoint.delete("remove", "/api/tunnels/:id", {
    params: tunnel,
    query: waitQuery,
    success: deleted,
    error: [Problem.TunnelNotFound, Problem.StoreUnavailable]
  }).annotateMerge(says("operate", "Delete a tunnel"))
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Tunnels" })) {}
