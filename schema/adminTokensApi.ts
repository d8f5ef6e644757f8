/** Admin tokens as a part of the API. */
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { Authorization, created, listQuery, says, Validation } from "./apiParts.ts"
import * as Problem from "./problems.ts"
import { GivenKeyId, pageOf } from "./resources.ts"
import { CreatedToken, NewToken, Self, Token } from "./adminTokens.ts"

const token = { id: GivenKeyId }

export class TokensGroup extends HttpApiGroup.make("tokens").add(
  HttpApiEndpoint.get("self", "/api/me", { success: Self }).annotateMerge(says("read", "Get the token that was sent")),
  HttpApiEndpoint.post("create", "/api/tokens", {
    payload: NewToken,
    success: created(CreatedToken),
    error: [Problem.ExpiryPast, Problem.StoreUnavailable]
  }).annotateMerge(says("admin", "Create an admin token", "It can be used on every node when this answers.")),
  HttpApiEndpoint.get("list", "/api/tokens", {
    query: listQuery,
    success: pageOf(Token),
    error: Problem.StoreUnavailable
  }).annotateMerge(says("admin", "List admin tokens", "Without their secrets, in the order of their creation.")),
  HttpApiEndpoint.get("get", "/api/tokens/:id", {
    params: token,
    success: Token,
    error: [Problem.TokenNotFound, Problem.UnreadableRow, Problem.StoreUnavailable]
  }).annotateMerge(says("admin", "Get an admin token", "Without its secret.")),
  HttpApiEndpoint.delete("remove", "/api/tokens/:id", {
    params: token,
    success: HttpApiSchema.NoContent,
    error: [Problem.TokenNotFound, Problem.StoreUnavailable]
  }).annotateMerge(
    says("admin", "Revoke an admin token", "No node lets it in from now on, and what is still being answered ends.")
  )
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Admin tokens" })) {}
