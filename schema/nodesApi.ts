/** HTTP API endpoints for nodes. */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authorization, describeEndpoint, Validation } from "./apiParts.ts"
import { Node } from "./nodes.ts"
import * as Problem from "./problems.ts"

const Nodes = Schema.Struct({ items: Schema.Array(Node) }).annotate({ identifier: "Nodes" })

export class NodesGroup extends HttpApiGroup.make("nodes").add(
  HttpApiEndpoint.get("list", "/api/nodes", { success: Nodes, error: Problem.StoreUnavailable }).annotateMerge(
    describeEndpoint(
      "read",
      "List nodes",
      "Every node that serves this database. Lost nodes stay in the list for 1 hour."
    )
  )
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Nodes" })) {}
