/** Connections to the database that no operator's request uses. */
import { Context } from "effect"
import type { SqlClient } from "effect/sql"

/**
 * For who is there, for the node's lease and for following the changes: however many requests of operators wait for the
 * other connections, a node that lives says so, and what is committed reaches its clients.
 */
export class ReservedPool extends Context.Service<ReservedPool, SqlClient.SqlClient>()("control/store/ReservedPool") {}

/** Two for claims, one each for touches, releases, and the lease with its mailbox, and two for the feed and its upkeep. */
export const reservedConnections = 7
