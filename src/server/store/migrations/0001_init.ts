/** Migration 1: the four tables of the spec, API keys, and the change log. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

/** Presence is not network state: changes of these columns get no revision and send no notification. */
const presence = `
  status text not null default 'offline' check (status in ('online', 'offline')),
  last_seen_at timestamptz,
  session_id text,
  session_node text,
  session_since timestamptz,
  session_address text,
  session_level text`

const times = `
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()`

const tables = [
  `create table control_meta (
    singleton boolean primary key default true check (singleton),
    timeline text not null default gen_random_uuid()::text,
    revision bigint not null default 0,
    master_key_id text
  )`,
  `insert into control_meta default values`,
  `create table changes (
    revision bigint primary key,
    at timestamptz not null default clock_timestamp(),
    entity text not null,
    op text not null check (op in ('put', 'delete')),
    entity_id text not null,
    row_image jsonb,
    check ((op = 'put') = (row_image is not null))
  )`,
  `create table agents (
    id text primary key default gen_random_uuid()::text check (length(id) between 1 and 128),
    name text not null check (length(name) between 1 and 128),
    virtual_ip text not null unique,
    subnet text not null unique,
    subnet_index integer not null unique check (subnet_index >= 0),
    wireguard_public_key text not null,
    wireguard_private_key text not null,
    ${presence},${times}
  )`,
  `create table gateways (
    id text primary key default gen_random_uuid()::text check (length(id) between 1 and 128),
    name text not null check (length(name) between 1 and 128),
    public_ip text,
    listen_port integer not null default 51820 check (listen_port between 1 and 65535),
    slot integer not null unique check (slot >= 0),
    wireguard_public_key text not null,
    wireguard_private_key text not null,
    ${presence},${times}
  )`,
  `create table tunnels (
    id text primary key default gen_random_uuid()::text check (length(id) between 1 and 128),
    agent_id text not null constraint tunnels_agent_exists references agents (id),
    domain text not null constraint tunnels_domain_taken unique
      check (domain = lower(domain) and length(domain) between 1 and 253),
    target text not null check (length(target) between 1 and 512),
    enabled boolean not null default true,
    revision bigint,
    reported_status text,
    reported_at timestamptz,
    ${times}
  )`,
  `create index tunnels_by_agent on tunnels (agent_id)`,
  `create table certificates (
    domain text primary key check (domain = lower(domain) and length(domain) between 1 and 253),
    certificate text not null,
    private_key text not null,
    expires_at timestamptz not null,
    ${times}
  )`,
  `create table api_keys (
    id text primary key,
    agent_id text references agents (id) on delete cascade,
    gateway_id text references gateways (id) on delete cascade,
    hash text not null unique check (hash ~ '^[0-9a-f]{64}$'),
    created_at timestamptz not null default now(),
    check (num_nonnulls(agent_id, gateway_id) = 1)
  )`,
  `create index api_keys_by_agent on api_keys (agent_id)`,
  `create index api_keys_by_gateway on api_keys (gateway_id)`
]

/**
 * A deferred trigger locks the counter row at the end of the writing transaction, until its commit. So revisions are
 * gap-free and in commit order, and a reader that sees revision r has seen every revision below r. A sequence lacks this
 * property, because its numbers become visible out of order. NOTIFY only wakes readers and carries no content.
 */
const functions = [
  `create function control_append_change(entity text, op text, entity_id text, row_image jsonb) returns bigint
   language plpgsql set search_path from current as $$
   declare next_revision bigint;
   begin
     update control_meta set revision = control_meta.revision + 1 returning control_meta.revision into next_revision;
     insert into changes (revision, entity, op, entity_id, row_image)
       values (next_revision, entity, op, entity_id, row_image);
     perform pg_notify('control_changes', '');
     return next_revision;
   end $$`,
  `create function control_row_image(full_row jsonb) returns jsonb language sql immutable as $$
     select full_row - array['status', 'last_seen_at', 'session_id', 'session_node', 'session_since', 'session_address',
       'session_level', 'reported_status', 'reported_at', 'revision']
   $$`,
  `create function control_record_change() returns trigger language plpgsql set search_path from current as $$
   declare
     old_id text := case when tg_op <> 'INSERT' then to_jsonb(old) ->> tg_argv[1] end;
     new_id text := case when tg_op <> 'DELETE' then to_jsonb(new) ->> tg_argv[1] end;
     put_revision bigint;
   begin
     if old_id is not null and old_id is distinct from new_id then
       perform control_append_change(tg_argv[0], 'delete', old_id, null);
     end if;
     if new_id is not null then
       put_revision := control_append_change(tg_argv[0], 'put', new_id, control_row_image(to_jsonb(new)));
       if tg_argv[0] = 'tunnel' then
         update tunnels set revision = put_revision where id = new_id;
       end if;
     end if;
     return null;
   end $$`,
  `create function control_iso(moment timestamptz) returns text language sql stable as $$
     select to_char(moment at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
   $$`,
  `create function control_touch_updated_at() returns trigger language plpgsql as $$
   begin
     new.updated_at := now();
     return new;
   end $$`,
  `create function control_refuse_truncate() returns trigger language plpgsql as $$
   begin
     raise exception 'TRUNCATE would delete rows without telling the clients; use DELETE';
   end $$`
]

interface Watched {
  readonly table: string
  readonly entity: string
  readonly key: string
  /** Only a change of one of these columns is a change of the network. */
  readonly columns: ReadonlyArray<string>
}

const watched: ReadonlyArray<Watched> = [
  {
    table: "agents",
    entity: "agent",
    key: "id",
    columns: ["id", "name", "virtual_ip", "subnet", "wireguard_public_key", "wireguard_private_key"]
  },
  {
    table: "gateways",
    entity: "gateway",
    key: "id",
    columns: ["id", "name", "public_ip", "listen_port", "slot", "wireguard_public_key", "wireguard_private_key"]
  },
  { table: "tunnels", entity: "tunnel", key: "id", columns: ["id", "agent_id", "domain", "target", "enabled"] },
  {
    table: "certificates",
    entity: "certificate",
    key: "domain",
    columns: ["domain", "certificate", "private_key", "expires_at"]
  },
  { table: "api_keys", entity: "key", key: "id", columns: ["id", "agent_id", "gateway_id", "hash"] }
]

const triggers = watched.flatMap(({ table, entity, key, columns }) => {
  const record = `deferrable initially deferred for each row`
  const call = `execute function control_record_change('${entity}', '${key}')`
  const changed = `(${columns.map((column) => `old.${column}`).join(", ")}) is distinct from (${
    columns.map((column) => `new.${column}`).join(", ")
  })`
  return [
    `create constraint trigger ${table}_inserted after insert on ${table} ${record} ${call}`,
    `create constraint trigger ${table}_deleted after delete on ${table} ${record} ${call}`,
    `create constraint trigger ${table}_updated after update on ${table} ${record} when (${changed}) ${call}`,
    `create trigger ${table}_no_truncate before truncate on ${table} execute function control_refuse_truncate()`,
    ...(table === "api_keys" ? [] : [
      `create trigger ${table}_touch before update on ${table} for each row when (${changed})
       execute function control_touch_updated_at()`
    ])
  ]
})

export const init = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* Effect.forEach([...tables, ...functions, ...triggers], (statement) => sql.unsafe(statement), { discard: true })
})
