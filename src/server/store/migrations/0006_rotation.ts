/** Migration 6: rotation of the master key, with the readable keys of each process. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

/** `advisoryLockNamespace` and `advisoryLocks.writingKey` of `advisoryLocks.ts`. */
const writingKeyLock = "1129599564, 3"

const statements = [
  // Keys of values that await re-encryption; every process must have them. Empty when no rotation is in progress.
  `alter table control_meta add column rotating_from text[] not null default '{}'`,
  `create table readable_keys (
    process text not null,
    key_id text not null,
    seen_at timestamptz not null default now(),
    primary key (process, key_id)
  )`,
  // The shared lock blocks a change of the writing key. The id is read in a second statement, whose snapshot is later than
  // the lock.
  `create function control_writing_key() returns text language plpgsql set search_path from current as $$
   begin
     perform pg_advisory_xact_lock_shared(${writingKeyLock});
     return (select master_key_id from control_meta);
   end $$`,
  // Re-encryption of a value is not a change, as long as the rest of the row is equal.
  `create function control_is_rotation(old_row jsonb, new_row jsonb) returns boolean language sql stable as $$
     select coalesce(current_setting('control.rotating', true), '') = 'on'
       and old_row - array['private_key', 'wireguard_private_key'] = new_row - array['private_key', 'wireguard_private_key']
   $$`,
  `create or replace function control_touch_updated_at() returns trigger
   language plpgsql set search_path from current as $$
   begin
     if not control_is_rotation(to_jsonb(old), to_jsonb(new)) then
       new.updated_at := now();
     end if;
     return new;
   end $$`,
  // As in 0002, except for the first condition.
  `create or replace function control_record_change() returns trigger
   language plpgsql set search_path from current as $$
   declare
     old_row jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
     new_row jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
     old_id text := old_row ->> tg_argv[1];
     new_id text := new_row ->> tg_argv[1];
     old_agent text := case when tg_argv[0] = 'tunnel' then old_row ->> 'agent_id' end;
     renumbered boolean := tg_argv[0] = 'agent' and tg_op = 'UPDATE' and
       (old_row -> 'virtual_ip', old_row -> 'subnet') is distinct from (new_row -> 'virtual_ip', new_row -> 'subnet');
     own boolean := (control_row_image(old_row) - 'public_ip' - 'updated_at') is distinct from
       (control_row_image(new_row) - 'public_ip' - 'updated_at');
     put_revision bigint;
   begin
     if tg_op = 'UPDATE' and control_is_rotation(old_row, new_row) then
       return null;
     end if;
     if old_id is not null and old_id is distinct from new_id then
       perform control_append_change(tg_argv[0], 'delete', old_id, null, 'delete', old_agent, false, true);
     end if;
     if new_id is not null then
       put_revision := control_append_change(tg_argv[0], 'put', new_id, control_row_image(new_row),
         case when old_id = new_id then 'update' else 'create' end, old_agent, renumbered, own);
       if tg_argv[0] = 'tunnel' then
         update tunnels set revision = put_revision where id = new_id;
       end if;
     end if;
     return null;
   end $$`
]

export const rotation = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true })
})
