/** Migration 7: the position at which an operator has accepted a loss of rows. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

const statements = [
  `alter table control_meta
    add column accepted_timeline text,
    add column accepted_revision bigint`,
  // Serves the count of deletions since a revision, which a full reload needs.
  `create index audit_deletions on audit (revision, entity) where op = 'delete'`
]

export const acceptance = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true })
})
