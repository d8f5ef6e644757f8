/** What the process that is asked knows of the network, and what it holds back. */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authorization, says, Validation } from "./apiParts.ts"
import { Revision, Timeline, Timestamp } from "./ids.ts"
import * as Problem from "./problems.ts"
import * as Resource from "./resources.ts"
import { Loss } from "./rowKinds.ts"

const Held = Schema.Struct({
  timeline: Timeline,
  revision: Revision,
  since: Timestamp.annotate({ description: "When it was noticed." }),
  losses: Schema.Array(Loss)
}).annotate({
  identifier: "Held",
  description:
    "What the database has and no client is given, since so much is missing from it that it looks like a mistake."
})

const LeftOut = Resource.LeftOut.annotate({
  description: "A row that cannot be read. What was known of it before stays."
})

const Network = Schema.Struct({
  timeline: Timeline,
  revision: Revision.annotate({ description: "What clients are given is as of this." }),
  held: Schema.NullOr(Held),
  leftOut: Schema.Array(LeftOut).annotate({ description: "The first thousand." })
}).annotate({ identifier: "Network" })

export class NetworkGroup extends HttpApiGroup.make("network").add(
  HttpApiEndpoint.get("get", "/api/network", { success: Network })
    .annotateMerge(says("read", "Get what this process knows", "Its place in the history, and what it holds back.")),
  HttpApiEndpoint.post("accept", "/api/network/acceptance", {
    payload: Schema.Struct({ timeline: Timeline.annotate({ description: "The timeline of `held`." }) }),
    success: Network,
    error: [Problem.NothingHeld, Problem.StoreUnavailable]
  }).annotateMerge(says(
    "operate",
    "Accept what is missing",
    "Gives what is held back to the clients, on every node. What the database does not have any more, they lose."
  ))
).middleware(Validation).middleware(Authorization).annotateMerge(OpenApi.annotations({ title: "Network" })) {}
