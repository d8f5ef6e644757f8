/** A pool of database connections that requests of operators never use. */
import { Context } from "effect"
import type { SqlClient } from "effect/sql"

/**
 * Serves presence, node leases and the change feed. Thus a live node keeps its lease, and its clients receive committed
 * changes, even while requests of operators occupy every other connection.
 */
export class ReservedPool extends Context.Service<ReservedPool, SqlClient.SqlClient>()("control/store/ReservedPool") {}

/**
 * Two for claims, one for touches, one for releases, one for the lease and its mailbox, two for the feed and its
 * compaction.
 */
export const reservedPoolSize = 7
