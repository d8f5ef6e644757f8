/** That somebody means it: what was missing when the history of this name was at this revision may be missing. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

const statements = [
  `alter table control_meta
    add column accepted_timeline text,
    add column accepted_revision bigint`,
  // How many rows were deleted since a revision, when everything is read anew.
  `create index audit_deletions on audit (revision, entity) where op = 'delete'`
]

export const acceptance = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true })
})
