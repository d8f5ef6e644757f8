/** Migration 2: history to resume from, the audit, and the delivery state of each client. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

/** Delivery state of a client, including its last rejection. It is presence: written in batches, and not network state. */
const progress = `
  add column session_version text,
  add column sent_revision bigint,
  add column applied_revision bigint,
  add column nack jsonb`

const tables = [
  // Facts for clients that resume (network/History.ts) that the current row no longer shows. They are the previous agent of a
  // tunnel, whether an agent got other addresses, and whether more than the public address of a gateway has changed. `tag`
  // distinguishes changes with equal revisions, because a restored backup reuses revisions.
  `alter table changes
    add column old_agent_id text,
    add column renumbered boolean not null default false,
    add column own boolean not null default true,
    add column tag uuid not null default gen_random_uuid()`,
  // Null for a client that generates its own key pair and reports the public key only.
  `alter table agents alter column wireguard_private_key drop not null, ${progress}`,
  `alter table gateways alter column wireguard_private_key drop not null, ${progress}`,
  `alter table api_keys add column last_used_at timestamptz`,
  // Free space on each page keeps frequent presence updates on the same page (HOT updates).
  ...["agents", "gateways", "api_keys"].map((table) => `alter table ${table} set (fillfactor = 60)`),
  `create table audit (
    id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    actor text not null,
    address text,
    entity text not null,
    op text not null check (op in ('create', 'update', 'delete')),
    entity_id text not null,
    revision bigint not null
  )`,
  `create index audit_by_entity on audit (entity, entity_id, id)`,
  ...["agents", "gateways", "tunnels", "certificates"].map((table) =>
    `create index ${table}_by_age on ${table} (created_at, ${table === "certificates" ? "domain" : "id"})`
  )
]

const functions = [
  `drop function control_append_change(text, text, text, jsonb)`,
  // Control passes the actor in two settings of its transaction. Without them, the change was made directly with SQL.
  `create function control_append_change(entity text, op text, entity_id text, row_image jsonb, audited text,
     old_agent_id text, renumbered boolean, own boolean) returns bigint
   language plpgsql set search_path from current as $$
   declare next_revision bigint;
   begin
     update control_meta set revision = control_meta.revision + 1 returning control_meta.revision into next_revision;
     insert into changes (revision, entity, op, entity_id, row_image, old_agent_id, renumbered, own)
       values (next_revision, entity, op, entity_id, row_image, old_agent_id, renumbered, own);
     insert into audit (actor, address, entity, op, entity_id, revision) values (
       coalesce(nullif(current_setting('control.actor', true), ''), 'sql:' || session_user),
       case when nullif(current_setting('control.actor', true), '') is null then host(inet_client_addr())
         else nullif(current_setting('control.address', true), '') end,
       entity, audited, entity_id, next_revision);
     perform pg_notify('control_changes', '');
     return next_revision;
   end $$`,
  `create or replace function control_row_image(full_row jsonb) returns jsonb language sql immutable as $$
     select full_row - array['status', 'last_seen_at', 'session_id', 'session_node', 'session_since', 'session_address',
       'session_level', 'session_version', 'sent_revision', 'applied_revision', 'nack', 'reported_status', 'reported_at',
       'revision', 'last_used_at']
   $$`,
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
   end $$`,
  // RFC 3339 (section 5.6) has four-digit years and no infinity.
  `create or replace function control_iso(moment timestamptz) returns text language sql stable as $$
     select case when moment is not null then to_char(
       least(greatest(moment, '0001-01-01 00:00:00Z'), '9999-12-31 23:59:59.999Z') at time zone 'UTC',
       'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') end
   $$`,
  `create function control_refuse_rewriting() returns trigger language plpgsql as $$
   begin
     raise exception 'the audit is only added to';
   end $$`,
  `create trigger audit_is_append_only before update or delete or truncate on audit
   execute function control_refuse_rewriting()`
]

export const history = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* Effect.forEach([...tables, ...functions], (statement) => sql.unsafe(statement), { discard: true })
})
