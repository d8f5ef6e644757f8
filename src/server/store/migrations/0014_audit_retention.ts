/** Migration 14: audit entries may be deleted after the retention, and their numbers stay for the loss guard. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

const statements = [
  // As in 0002, except that a transaction with `control.audit_retention` may delete; the row's trigger has the last word.
  `create or replace function control_refuse_rewriting() returns trigger language plpgsql as $$
   begin
     if tg_op = 'DELETE' and coalesce(current_setting('control.audit_retention', true), '') <> '' then
       return null;
     end if;
     raise exception 'the audit is only added to';
   end $$`,
  `create function control_refuse_early_deletion() returns trigger language plpgsql as $$
   begin
     if old.at >= now() - current_setting('control.audit_retention')::interval then
       raise exception 'the audit keeps its entries for %', current_setting('control.audit_retention');
     end if;
     return old;
   end $$`,
  `create trigger audit_keeps_recent before delete on audit for each row execute function control_refuse_early_deletion()`,
  // Deleted entries by entity: rows created and deleted after the revision `since` (the last accepted loss, or 0).
  `create table audit_trimmed (
    entity text primary key,
    since bigint not null,
    up_to bigint not null,
    created bigint not null,
    deleted bigint not null
  )`
]

export const auditRetention = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true })
})
