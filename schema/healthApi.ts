/** What supervisors ask, as a part of the API. */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { says } from "./apiParts.ts"
import * as Problem from "./problems.ts"

export class HealthGroup extends HttpApiGroup.make("health").add(
  HttpApiEndpoint.get("live", "/healthz", { success: Schema.Struct({ status: Schema.Literal("ok") }) })
    .annotateMerge(says("anyone", "Is the process alive?", "200, whatever else is wrong.")),
  HttpApiEndpoint.get("ready", "/readyz", {
    success: Schema.Struct({ status: Schema.Literal("ok") }),
    error: Problem.NotReady
  }).annotateMerge(
    says("anyone", "Can it serve?", "200 when the database answers and the feed of changes is caught up.")
  ),
  HttpApiEndpoint.get("metrics", "/metrics", {
    success: Schema.String.pipe(HttpApiSchema.asText({ contentType: "text/plain; version=0.0.4; charset=utf-8" }))
  }).annotateMerge(says("anyone", "Figures for Prometheus"))
).annotateMerge(OpenApi.annotations({ title: "Health" })) {}
