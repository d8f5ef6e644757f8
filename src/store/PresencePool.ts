/** Connections to the database that nobody but presence uses. */
import { Context } from "effect"
import type { SqlClient } from "effect/sql"

/**
 * For who is there, and for the node's lease: however many requests of operators wait for the other connections, a node
 * that lives can say so.
 */
export class PresencePool extends Context.Service<PresencePool, SqlClient.SqlClient>()("control/store/PresencePool") {}

/** Two for claims, and one each for touches, releases, and the lease with its mailbox. */
export const presenceConnections = 5
