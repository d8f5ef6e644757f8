/** HTTP API endpoints for connected clients. */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authorization, describeEndpoint, listQuery, Validation } from "./apiParts.ts"
import { connectedClientFilters } from "./listFilters.ts"
import * as Problem from "./problems.ts"
import * as Pagination from "./pagination.ts"
import * as Resource from "./resources.ts"

export class ClientsGroup extends HttpApiGroup.make("clients").add(
  HttpApiEndpoint.get("list", "/api/clients", {
    query: { ...listQuery, ...connectedClientFilters },
    success: Pagination.pageOf(Resource.ConnectedClient),
    error: Problem.StoreUnavailable
  }).annotateMerge(
    describeEndpoint("read", "List connected clients", "Clients of every node, in the order in which they connected.")
  )
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Connected clients" })) {}
