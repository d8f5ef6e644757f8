/** Who is connected, as a part of the API. */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authorization, listQuery, says, Validation } from "./apiParts.ts"
import * as Problem from "./problems.ts"
import * as Resource from "./resources.ts"

export class ClientsGroup extends HttpApiGroup.make("clients").add(
  HttpApiEndpoint.get("list", "/api/clients", {
    query: listQuery,
    success: Resource.pageOf(Resource.ConnectedClient),
    error: Problem.StoreUnavailable
  }).annotateMerge(says("read", "List who is connected", "To any node, in the order of their connecting."))
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Connected clients" })) {}
