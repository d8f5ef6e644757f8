/** Migration 11: addresses, networks, host names and targets are checked when they are written, also by SQL. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

const octet = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
const ipv4 = `(${octet}\\.){3}${octet}`
const port = "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})"
const hostLabel = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
const label = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"

/** The rules of `schema/addresses.ts` at the time of this migration. */
const functions = [
  `create function control_is_ipv4(address text) returns boolean language sql immutable as $$
     select address ~ '^${ipv4}$'
   $$`,
  // The type inet has no other pattern with a colon than IPv6 addresses, once prefix lengths and zones are excluded.
  `create function control_is_ipv6(address text) returns boolean language plpgsql immutable as $$
   begin
     if address !~ '^[0-9a-fA-F:.]{2,45}$' or address !~ ':'
       or (address ~ '\\.' and address !~ ':${ipv4}$') then
       return false;
     end if;
     return family(address::inet) = 6;
   exception when invalid_text_representation then
     return false;
   end $$`,
  `create function control_is_ipv4_network(network text) returns boolean language sql immutable as $$
     select network ~ '^${ipv4}/(3[0-2]|[12]?[0-9])$'
   $$`,
  `create function control_is_host_name(name text) returns boolean language sql immutable as $$
     select length(name) <= 253 and name ~ '^(\\*\\.)?(${hostLabel}\\.)*${hostLabel}$'
       and name !~ '(^|\\.)([0-9]+|0x[0-9a-f]*)$'
   $$`,
  `create function control_is_target(target text) returns boolean language plpgsql immutable
   set search_path from current as $$
   declare
     rest text := regexp_replace(target, '^https?://', '');
     host text := regexp_replace(rest, ':[^:]*$', '');
   begin
     if rest !~ ':${port}$' then return false; end if;
     if host ~ '^\\[.*\\]$' then return control_is_ipv6(substr(host, 2, length(host) - 2)); end if;
     if host ~* '(^|\\.)([0-9]+|0x[0-9a-f]*)$' then return control_is_ipv4(host); end if;
     return length(host) between 1 and 253 and host ~ '^${label}(\\.${label})*$';
   end $$`,
  // Only a new value is checked, so that presence writes and other updates of older rows still work.
  `create function control_check_address() returns trigger language plpgsql set search_path from current as $$
   declare
     value text := to_jsonb(new) ->> tg_argv[0];
     valid boolean;
   begin
     if value is null or (tg_op = 'UPDATE' and to_jsonb(old) ->> tg_argv[0] is not distinct from value) then
       return new;
     end if;
     execute format('select %I($1)', tg_argv[1]) into valid using value;
     if not valid then
       raise exception '%.% is %, but must be %', tg_table_name, tg_argv[0], quote_literal(value), tg_argv[2]
         using errcode = 'check_violation', constraint = tg_table_name || '_' || tg_argv[0] || '_valid',
           table = tg_table_name, column = tg_argv[0];
     end if;
     return new;
   end $$`,
  `create function control_is_ip(address text) returns boolean language sql immutable set search_path from current as $$
     select control_is_ipv4(address) or control_is_ipv6(address)
   $$`
]

const checked = [
  { table: "agents", column: "virtual_ip", test: "control_is_ipv4", allowed: "an IPv4 address" },
  {
    table: "agents",
    column: "subnet",
    test: "control_is_ipv4_network",
    allowed: "an IPv4 network such as 10.64.0.0/24"
  },
  { table: "gateways", column: "public_ip", test: "control_is_ip", allowed: "an IPv4 or IPv6 address" },
  { table: "tunnels", column: "domain", test: "control_is_host_name", allowed: "a host name in lower case" },
  { table: "certificates", column: "domain", test: "control_is_host_name", allowed: "a host name in lower case" },
  { table: "tunnels", column: "target", test: "control_is_target", allowed: "host:port or http(s)://host:port" }
]

const triggers = checked.map(({ allowed, column, table, test }) =>
  `create trigger ${table}_check_${column} before insert or update of ${column} on ${table} for each row
   execute function control_check_address('${column}', '${test}', '${allowed}')`
)

export const addressChecks = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* Effect.forEach([...functions, ...triggers], (statement) => sql.unsafe(statement), { discard: true })
})
