/** HTTP API endpoints for admin tokens. */
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { Authorization, createdResponse, describeEndpoint, listQuery, Validation } from "./apiParts.ts"
import * as Problem from "./problems.ts"
import { pageOf } from "./pagination.ts"
import { KeyIdInput } from "./resources.ts"
import { CreatedToken, NewToken, Self, Token } from "./adminTokens.ts"

const token = { id: KeyIdInput }

export class TokensGroup extends HttpApiGroup.make("tokens").add(
  HttpApiEndpoint.get("self", "/api/me", { success: Self }).annotateMerge(
    describeEndpoint("read", "Get the token of this request")
  ),
  HttpApiEndpoint.post("create", "/api/tokens", {
    payload: NewToken,
    success: createdResponse(CreatedToken),
    error: [Problem.ExpiryPast, Problem.StoreUnavailable]
  }).annotateMerge(
    describeEndpoint("admin", "Create an admin token", "Every node accepts the token as soon as this request returns.")
  ),
  HttpApiEndpoint.get("list", "/api/tokens", {
    query: listQuery,
    success: pageOf(Token),
    error: Problem.StoreUnavailable
  }).annotateMerge(
    describeEndpoint("admin", "List admin tokens", "Tokens without their secrets, oldest first.")
  ),
  HttpApiEndpoint.get("get", "/api/tokens/:id", {
    params: token,
    success: Token,
    error: [Problem.TokenNotFound, Problem.UnreadableRow, Problem.StoreUnavailable]
  }).annotateMerge(describeEndpoint("admin", "Get an admin token", "The secret is not included.")),
  HttpApiEndpoint.delete("remove", "/api/tokens/:id", {
    params: token,
    success: HttpApiSchema.NoContent,
    error: [Problem.TokenNotFound, Problem.StoreUnavailable]
  }).annotateMerge(
    describeEndpoint(
      "admin",
      "Revoke an admin token",
      "Every node rejects the token from now on, and its open streams end."
    )
  )
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Admin tokens" })) {}
