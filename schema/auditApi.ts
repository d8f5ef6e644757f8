/** Who changed what, as a part of the API. */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authorization, says, Validation } from "./apiParts.ts"
import { AuditPage, auditQuery } from "./audit.ts"
import * as Problem from "./problems.ts"

export class AuditGroup extends HttpApiGroup.make("audit").add(
  HttpApiEndpoint.get("list", "/api/audit", {
    query: auditQuery,
    success: AuditPage,
    error: Problem.StoreUnavailable
  }).annotateMerge(
    says("read", "List who changed what", "The newest first; also what was written to the database directly.")
  )
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Audit" })) {}
