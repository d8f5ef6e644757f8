/** Nodes: the Control processes that serve one database. */
import { Schema } from "effect"
import { count, storedText } from "./sharedFields.ts"
import { Revision, Timestamp } from "./ids.ts"

export const Node = Schema.Struct({
  id: Schema.String.annotate({ description: "Id of the node; new for each start of a process." }),
  name: storedText("`CONTROL_NODE_NAME`, or the host name."),
  version: storedText("Version of Control."),
  startedAt: Timestamp.annotate({ description: "Time of the first lease renewal." }),
  lastSeenAt: Timestamp.annotate({ description: "Time of the latest lease renewal." }),
  state: Schema.Literals(["live", "draining", "lost"]).annotate({
    description:
      "`live`: renews its lease. `draining`: is shutting down while its clients reconnect to other nodes. `lost`: its lease has expired, and its clients count as offline."
  }),
  clients: count("Number of connected clients at the latest lease renewal; 0 for a lost node."),
  revision: Revision.annotate({ description: "Revision of the node's network state at the latest lease renewal." })
}).annotate({ identifier: "Node", description: "Control process that serves this database." })
export type Node = typeof Node.Type
