/** HTTP API endpoints for the audit log. */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authorization, describeEndpoint, Validation } from "./apiParts.ts"
import { AuditPage, auditQuery } from "./audit.ts"
import * as Problem from "./problems.ts"

export class AuditGroup extends HttpApiGroup.make("audit").add(
  HttpApiEndpoint.get("list", "/api/audit", {
    query: auditQuery,
    success: AuditPage,
    error: Problem.StoreUnavailable
  }).annotateMerge(
    describeEndpoint(
      "read",
      "List changes and their authors",
      "Newest first. Direct writes to the database are included."
    )
  )
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Audit" })) {}
