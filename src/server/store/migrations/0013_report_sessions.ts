/** Migration 13: a tunnel's reported status belongs to its agent's session, and to the agent, domain and target. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

const statements = [
  `alter table tunnels add column reported_session text`,
  // As in 0002, with the new column.
  `create or replace function control_row_image(full_row jsonb) returns jsonb language sql immutable as $$
     select full_row - array['status', 'last_seen_at', 'session_id', 'session_node', 'session_since', 'session_address',
       'session_level', 'session_version', 'sent_revision', 'applied_revision', 'nack', 'reported_status', 'reported_at',
       'reported_session', 'revision', 'last_used_at']
   $$`,
  `create function control_forget_report() returns trigger language plpgsql as $$
   begin
     new.reported_status := null;
     new.reported_at := null;
     new.reported_session := null;
     return new;
   end $$`,
  `create trigger tunnels_forget_report before update of agent_id, domain, target on tunnels for each row
   when ((old.agent_id, old.domain, old.target) is distinct from (new.agent_id, new.domain, new.target))
   execute function control_forget_report()`
]

export const reportSessions = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true })
})
