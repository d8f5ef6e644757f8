/** Connections with a session of their holder alone, for LISTEN and session locks. */
import type { PgConnection } from "@effect/sql-pg"
import { Context, type Effect, type Scope } from "effect"
import type { SqlError } from "effect/sql"

/** Leads to PostgreSQL directly, or through a pooler in session mode. Otherwise `CONTROL_LISTEN_URL` must name a direct way. */
export class SessionConnection extends Context.Service<SessionConnection, {
  /** False: a pooler in transaction mode, without `CONTROL_LISTEN_URL`. */
  readonly isAvailable: boolean
  /** Opens a new connection, outside the pools. */
  readonly open: Effect.Effect<PgConnection.PgConnection, SqlError.SqlError, Scope.Scope>
}>()("control/store/SessionConnection") {}
