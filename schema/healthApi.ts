/** HTTP API endpoints for health checks and metrics. */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { describeEndpoint } from "./apiParts.ts"
import * as Problem from "./problems.ts"

export class HealthGroup extends HttpApiGroup.make("health").add(
  HttpApiEndpoint.get("live", "/healthz", { success: Schema.Struct({ status: Schema.Literal("ok") }) })
    .annotateMerge(
      describeEndpoint("anyone", "Check that the process is alive", "Always 200, also while the server is not ready.")
    ),
  HttpApiEndpoint.get("ready", "/readyz", {
    success: Schema.Struct({ status: Schema.Literal("ok") }),
    error: Problem.NotReady
  }).annotateMerge(
    describeEndpoint(
      "anyone",
      "Check that the server is ready",
      "200 when the database answers and the change feed has caught up."
    )
  ),
  HttpApiEndpoint.get("metrics", "/metrics", {
    success: Schema.String.pipe(HttpApiSchema.asText({ contentType: "text/plain; version=0.0.4; charset=utf-8" }))
  }).annotateMerge(describeEndpoint("anyone", "Get metrics for Prometheus"))
).annotateMerge(OpenApi.annotations({ title: "Health" })) {}
