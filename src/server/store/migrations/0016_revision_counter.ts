/** Migration 16: a transaction finds its own version of the counter row by its place, so that large transactions take linear time. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

/**
 * Each change writes a version of the counter row, and PostgreSQL searches the newest one from the oldest. A transaction that
 * has locked the row knows the place (`ctid`) of the newest version. The place is a setting of the transaction, so that a rollback
 * to a savepoint also takes it back. If another statement has moved the row, it is searched again.
 */
const statements = [
  `create function control_next_revision() returns bigint language plpgsql set search_path from current as $$
   declare
     place text := nullif(current_setting('control.counter_place', true), '');
     next_revision bigint;
     next_place tid;
   begin
     if place is not null then
       update control_meta set revision = revision + 1 where ctid = place::tid returning revision, ctid
         into next_revision, next_place;
     end if;
     if next_revision is null then
       update control_meta set revision = revision + 1 returning revision, ctid into next_revision, next_place;
     end if;
     perform set_config('control.counter_place', next_place::text, true);
     return next_revision;
   end $$`,
  // As in 0005, with the new function.
  `create or replace function control_append_change(entity text, op text, entity_id text, row_image jsonb, audited text,
     old_agent_id text, renumbered boolean, own boolean) returns bigint
   language plpgsql set search_path from current as $$
   declare
     next_revision bigint := control_next_revision();
     described jsonb := nullif(current_setting('control.described', true), '')::jsonb;
     era text := case when audited = 'delete' then 'old' else 'new' end;
   begin
     insert into changes (revision, entity, op, entity_id, row_image, old_agent_id, renumbered, own)
       values (next_revision, entity, op, entity_id, row_image, old_agent_id, renumbered, own);
     if described ->> 'entity' is distinct from entity or described ->> (era || '_id') is distinct from entity_id then
       described := null;
     end if;
     perform control_audit(entity, audited, entity_id,
       coalesce(described ->> (era || '_name'), control_name_of(row_image)),
       case when audited = 'update' and jsonb_typeof(described -> 'fields') = 'array'
         then array(select jsonb_array_elements_text(described -> 'fields')) end,
       next_revision);
     perform pg_notify('control_changes', '');
     return next_revision;
   end $$`
]

export const revisionCounter = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true })
})
