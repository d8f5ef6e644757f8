/** Limits of PostgreSQL on statements, locks and idle transactions of Control. */

/**
 * Server-side limits in milliseconds. A writer that stops while it holds the lock of the revision counter would block every
 * other writer, so PostgreSQL ends its transaction.
 */
export const sessionTimeouts = {
  lock_timeout: "3000",
  idle_in_transaction_session_timeout: "5000",
  statement_timeout: "10000"
}
