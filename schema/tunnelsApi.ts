/** HTTP API endpoints for tunnels. */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import {
  Authorization,
  changeResponse,
  createdResponse,
  deletedResponse,
  describeEndpoint,
  listQuery,
  Validation
} from "./apiParts.ts"
import { tunnelWaitQuery, waitQuery } from "./delivery.ts"
import { tunnelFilters } from "./listFilters.ts"
import { pageOf } from "./pagination.ts"
import * as Problem from "./problems.ts"
import * as TunnelResource from "./tunnelResources.ts"
import * as Resource from "./resources.ts"

const tunnel = { id: Resource.TunnelReference }

const ChangedTunnel = changeResponse(TunnelResource.Tunnel, "ChangedTunnel")

/** Reasons why a tunnel cannot be stored. */
const conflicts = [
  Problem.DomainTaken,
  Problem.NameTaken,
  Problem.ListenPortTaken,
  Problem.TunnelRejected,
  Problem.NoSuchAgent
] as const

export class TunnelsGroup extends HttpApiGroup.make("tunnels").add(
  HttpApiEndpoint.post("create", "/api/tunnels", {
    query: tunnelWaitQuery,
    payload: TunnelResource.NewTunnelRequest,
    success: createdResponse(ChangedTunnel),
    error: [...conflicts, Problem.StoreUnavailable]
  }).annotateMerge(
    describeEndpoint(
      "operate",
      "Create a tunnel",
      "Control sends the tunnel to its agent and to every gateway that serves it."
    )
  ),
  HttpApiEndpoint.get("list", "/api/tunnels", {
    query: { ...listQuery, ...tunnelFilters },
    success: pageOf(TunnelResource.Tunnel),
    error: [Problem.NoSuchAgent, Problem.StoreUnavailable]
  }).annotateMerge(describeEndpoint("read", "List tunnels", "Oldest first.")),
  HttpApiEndpoint.get("get", "/api/tunnels/:id", {
    params: tunnel,
    success: TunnelResource.TunnelDetails,
    error: [Problem.TunnelNotFound, Problem.UnreadableRow, Problem.StoreUnavailable]
  }).annotateMerge(describeEndpoint("read", "Get a tunnel")),
  HttpApiEndpoint.patch("update", "/api/tunnels/:id", {
    params: tunnel,
    query: tunnelWaitQuery,
    payload: TunnelResource.TunnelPatchRequest,
    success: ChangedTunnel,
    error: [
      Problem.TunnelNotFound,
      ...conflicts,
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
