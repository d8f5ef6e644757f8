/** Migration 5: admin tokens with roles; names and columns of changed rows in the audit. */
import { Effect, Schema } from "effect"
import { SqlClient } from "effect/sql"

const tables = [
  `create table admin_tokens (
    id text primary key check (length(id) between 1 and 128),
    name text not null check (length(name) between 1 and 128),
    role text not null check (role in ('read', 'operate', 'admin')),
    hash text not null unique check (hash ~ '^[0-9a-f]{64}$'),
    expires_at timestamptz,
    created_at timestamptz not null default now(),
    last_used_at timestamptz,
    created_by text not null
  )`,
  `create index admin_tokens_by_age on admin_tokens (created_at, id)`,
  `alter table audit
    add column actor_name text,
    add column name text,
    add column fields text[],
    alter column revision drop not null`,
  // "not valid" exempts existing rows, because the audit is append-only.
  `alter table audit
    add constraint audit_entity_is_a_word check (entity ~ '^[a-z][a-z_]{0,31}$') not valid,
    add constraint audit_revision_is_a_number check (revision >= 0) not valid,
    add constraint audit_actor_is_named check (actor <> '') not valid`,
  `create index audit_by_actor on audit (actor, id)`,
  `create index audit_by_time on audit using brin (at)`
]

const functions = [
  `create function control_current_actor() returns text language sql stable as $$
     select coalesce(nullif(current_setting('control.actor', true), ''), 'sql:' || session_user)
   $$`,
  `create function control_audit(entity text, op text, entity_id text, name text, fields text[], revision bigint)
   returns void language sql set search_path from current as $$
     insert into audit (actor, actor_name, address, entity, op, entity_id, name, fields, revision) values (
       control_current_actor(),
       nullif(current_setting('control.actor_name', true), ''),
       case when nullif(current_setting('control.actor', true), '') is null then host(inet_client_addr())
         else nullif(current_setting('control.address', true), '') end,
       $1, $2, $3, $4, $5, $6)
   $$`,
  // Display name of a row; for an API key, its owner.
  `create function control_name_of(full_row jsonb) returns text language sql immutable as $$
     select coalesce(full_row ->> 'name', full_row ->> 'domain', 'agent:' || (full_row ->> 'agent_id'),
       'gateway:' || (full_row ->> 'gateway_id'))
   $$`,
  // Names of the changed columns, never their values.
  `create function control_changed_fields(old_row jsonb, new_row jsonb) returns text[] language sql immutable as $$
     select array_agg(key order by key) from jsonb_each(control_row_image(new_row))
     where key <> 'updated_at' and value is distinct from old_row -> key
   $$`,
  // Must run before the trigger that assigns the revision, which has the new row only. PostgreSQL runs the triggers of one
  // event in the order of their names.
  `create function control_describe_change() returns trigger language plpgsql set search_path from current as $$
   declare
     old_row jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
     new_row jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
   begin
     perform set_config('control.described', jsonb_build_object('entity', tg_argv[0],
       'old_id', old_row ->> tg_argv[1], 'new_id', new_row ->> tg_argv[1],
       'old_name', control_name_of(old_row), 'new_name', control_name_of(new_row),
       'fields', case when tg_op = 'UPDATE' then to_jsonb(control_changed_fields(old_row, new_row)) end)::text, true);
     return null;
   end $$`,
  `create or replace function control_append_change(entity text, op text, entity_id text, row_image jsonb, audited text,
     old_agent_id text, renumbered boolean, own boolean) returns bigint
   language plpgsql set search_path from current as $$
   declare
     next_revision bigint;
     described jsonb := nullif(current_setting('control.described', true), '')::jsonb;
     era text := case when audited = 'delete' then 'old' else 'new' end;
   begin
     update control_meta set revision = control_meta.revision + 1 returning control_meta.revision into next_revision;
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
   end $$`,
  `create function control_audit_token() returns trigger language plpgsql set search_path from current as $$
   declare
     old_row jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
     new_row jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
     shown jsonb := coalesce(new_row, old_row);
   begin
     perform control_audit('token',
       case tg_op when 'INSERT' then 'create' when 'DELETE' then 'delete' else 'update' end,
       shown ->> 'id', shown ->> 'name',
       case when tg_op = 'UPDATE' then control_changed_fields(old_row, new_row) end, null);
     return null;
   end $$`,
  `create trigger admin_tokens_audited after insert or delete on admin_tokens for each row
   execute function control_audit_token()`,
  `create trigger admin_tokens_changed after update on admin_tokens for each row
   when ((old.id, old.name, old.role, old.hash, old.expires_at, old.created_at, old.created_by) is distinct from
     (new.id, new.name, new.role, new.hash, new.expires_at, new.created_at, new.created_by))
   execute function control_audit_token()`,
  `create trigger admin_tokens_no_truncate before truncate on admin_tokens execute function control_refuse_truncate()`
]

const described = [
  { table: "agents", entity: "agent", key: "id" },
  { table: "gateways", entity: "gateway", key: "id" },
  { table: "tunnels", entity: "tunnel", key: "id" },
  { table: "certificates", entity: "certificate", key: "domain" },
  { table: "api_keys", entity: "key", key: "id" }
]

/** The columns other than presence, so that the trigger does not compare whole rows as JSON on each presence write. */
const columnsOf = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, table: string) {
  const rows = yield* sql`select jsonb_object_keys(control_row_image(jsonb_object_agg(attname, 1))) as name
    from pg_attribute where attrelid = ${table}::regclass and attnum > 0 and not attisdropped`
  return decodeNames(rows).flatMap(({ name }) => name === "updated_at" ? [] : [name])
})

const decodeNames = Schema.decodeUnknownSync(Schema.Array(Schema.Struct({ name: Schema.String })))

export const admins = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* Effect.forEach([...tables, ...functions], (statement) => sql.unsafe(statement), { discard: true })
  for (const { entity, key, table } of described) {
    const columns = yield* columnsOf(sql, table)
    const row = (era: "old" | "new") => `(${columns.map((column) => `${era}."${column}"`).join(", ")})`
    const call = `deferrable initially deferred for each row`
    const run = `execute function control_describe_change('${entity}', '${key}')`
    // The letter `a` sorts these triggers before `_deleted`, `_inserted` and `_updated`.
    yield* sql.unsafe(
      `create constraint trigger ${table}_a_described after insert or delete on ${table} ${call} ${run}`
    )
    yield* sql.unsafe(`create constraint trigger ${table}_a_redescribed after update on ${table} ${call}
      when (${row("old")} is distinct from ${row("new")}) ${run}`)
  }
})
