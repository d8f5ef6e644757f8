/** HTTP API endpoints for a node's network state and for held updates. */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authorization, describeEndpoint, Validation } from "./apiParts.ts"
import { Revision, Timeline, Timestamp } from "./ids.ts"
import * as Problem from "./problems.ts"
import * as Pagination from "./pagination.ts"
import { Loss } from "./rowKinds.ts"

const HeldUpdate = Schema.Struct({
  timeline: Timeline,
  revision: Revision,
  since: Timestamp.annotate({ description: "Time of detection." }),
  losses: Schema.Array(Loss)
}).annotate({
  identifier: "Held",
  description:
    "Update that the loss guard holds back from all clients, because the number of missing rows suggests a mistake."
})

const UnreadableRow = Pagination.UnreadableRow.annotate({
  description: "Row that cannot be decoded or decrypted. Clients keep its last readable state."
})

const Network = Schema.Struct({
  timeline: Timeline,
  revision: Revision.annotate({ description: "Revision of the views that this node serves." }),
  clientUrl: Schema.String.annotate({
    description:
      "URL at which agents and gateways reach this node: CONTROL_PUBLIC_URL, otherwise an address of its machine.",
    examples: ["wss://control.example.com"]
  }),
  held: Schema.NullOr(HeldUpdate),
  unreadable: Schema.Array(UnreadableRow).annotate({ description: "Unreadable rows, at most 1000." })
}).annotate({ identifier: "Network" })

export class NetworkGroup extends HttpApiGroup.make("network").add(
  HttpApiEndpoint.get("get", "/api/network", { success: Network, error: Problem.StoreUnavailable })
    .annotateMerge(
      describeEndpoint(
        "read",
        "Get the network state of a node",
        "Position of the answering node, its held update and the unreadable rows."
      )
    ),
  HttpApiEndpoint.post("accept", "/api/network/acceptance", {
    payload: Schema.Struct({
      timeline: Timeline.annotate({ description: "`timeline` of the held update, as `GET /api/network` returns it." })
    }),
    success: Network,
    error: [Problem.NothingHeld, Problem.StoreUnavailable]
  }).annotateMerge(describeEndpoint(
    "operate",
    "Accept a loss",
    "Every node sends the held update to its clients. The clients then lose the rows that are missing from the database."
  ))
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Network" })) {}
