/** The processes that serve one database together, as operators see them. */
import { Schema } from "effect"
import { stored } from "./sharedFields.ts"
import { Revision, Timestamp } from "./ids.ts"

export const Node = Schema.Struct({
  id: Schema.String.annotate({ description: "Its own for each start of a process." }),
  name: stored("What it is called: `CONTROL_NODE_NAME`, or its host's name."),
  version: stored("The version of Control."),
  startedAt: Timestamp.annotate({ description: "When it first renewed its lease." }),
  lastSeenAt: Timestamp.annotate({ description: "When it last renewed its lease." }),
  state: Schema.Literals(["live", "draining", "lost"]).annotate({
    description:
      "Whether it renews its lease; or stops, and its clients are on their way to another; or has fallen silent: then its clients count as offline."
  }),
  clients: Schema.Int.annotate({
    description: "How many clients are connected to it, as of when it was last seen; none to a lost one."
  }),
  revision: Revision.annotate({ description: "Up to which revision it knew the network when it was last seen." })
}).annotate({ identifier: "Node", description: "A process of Control that serves this database." })
export type Node = typeof Node.Type
