/** The nodes as a part of the API. */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authorization, says, Validation } from "./apiParts.ts"
import { Node } from "./nodes.ts"
import * as Problem from "./problems.ts"

const Nodes = Schema.Struct({ items: Schema.Array(Node) }).annotate({ identifier: "Nodes" })

export class NodesGroup extends HttpApiGroup.make("nodes").add(
  HttpApiEndpoint.get("list", "/api/nodes", { success: Nodes, error: Problem.StoreUnavailable }).annotateMerge(
    says(
      "read",
      "List the nodes",
      "Every process that serves this database, and for an hour those that have fallen silent."
    )
  )
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Nodes" })) {}
