/** Migration 17: tunnels have a protocol and a port at their agent; tcp and udp tunnels have a name and a public port. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

/** Columns whose change is a change of the network. */
const watched = [
  "id",
  "agent_id",
  "domain",
  "target",
  "enabled",
  "name",
  "protocol",
  "port",
  "listen_port",
  "proxy_protocol",
  "tls"
]

const isDifferent = `(${watched.map((column) => `old.${column}`).join(", ")}) is distinct from (${
  watched.map((column) => `new.${column}`).join(", ")
})`

/** Ports of tunnels that are older than ports, oldest first. */
const firstPorts = `update tunnels set port = 19999 + numbered.number
  from (select id, row_number() over (partition by agent_id order by created_at, id) as number from tunnels) as numbered
  where tunnels.id = numbered.id and numbered.number <= 10000`

/** The first schema version with ports. */
export const tunnelPortsVersion = 17

/** For a restore of an older backup, whose rows no trigger sees. */
export const giveFirstPorts = (sql: SqlClient.SqlClient) => sql.unsafe(firstPorts)

const columns = [
  `alter table tunnels
     alter column domain drop not null,
     add column name text check (length(name) between 1 and 128),
     add column protocol text not null default 'http' constraint tunnels_protocol_valid
       check (protocol in ('http', 'tls', 'tcp', 'udp')),
     add column port integer constraint tunnels_port_valid check (port between 20000 and 29999),
     add column listen_port integer constraint tunnels_listen_port_valid check (listen_port between 1 and 65535),
     add column proxy_protocol text not null default 'none' constraint tunnels_proxy_protocol_valid
       check (proxy_protocol in ('none', 'v1', 'v2')),
     add column tls text not null default 'verify' constraint tunnels_tls_valid check (tls in ('verify', 'insecure'))`,
  // Before the triggers watch the port, so that the first ports are no change of the network.
  firstPorts,
  `set constraints all immediate`,
  `set constraints all deferred`,
  `alter table tunnels
     add constraint tunnels_shape_valid check (case when protocol in ('http', 'tls')
       then domain is not null and listen_port is null
       else name is not null and listen_port is not null end),
     add constraint tunnels_listen_port_allowed check (protocol <> 'tcp' or listen_port not in (80, 443)),
     add constraint tunnels_proxy_protocol_allowed check (proxy_protocol = 'none' or protocol in ('tcp', 'tls')),
     add constraint tunnels_scheme_allowed check (protocol = 'http' or target !~ '^https?://')`,
  // The domain of a tcp or udp tunnel is for DNS only, so that another tunnel may have it.
  `alter table tunnels drop constraint tunnels_domain_taken`,
  `create unique index tunnels_domain_taken on tunnels (domain) where protocol in ('http', 'tls')`,
  `create unique index tunnels_name_taken on tunnels (control_name_key(name)) where name is not null`,
  `create unique index tunnels_port_taken on tunnels (agent_id, port)`,
  `create unique index tunnels_listen_port_taken on tunnels (listen_port, (protocol = 'udp'))
     where listen_port is not null`
]

/** A port is given once a day, because clients that have missed a change may still use its last tunnel. */
const ports = [
  `create table released_tunnel_ports (
     agent_id text not null references agents (id) on delete cascade,
     port integer not null,
     released_at timestamptz not null default now(),
     primary key (agent_id, port)
   )`,
  `create function control_release_tunnel_port() returns trigger language plpgsql set search_path from current as $$
   begin
     if old.port is not null and exists (select from agents where id = old.agent_id) then
       insert into released_tunnel_ports (agent_id, port) values (old.agent_id, old.port)
       on conflict (agent_id, port) do update set released_at = now();
     end if;
     return null;
   end $$`,
  `create function control_free_tunnel_port(agent text) returns integer language plpgsql set search_path from current as $$
   declare candidate integer;
   begin
     select 1 + greatest(19999, (select max(t.port) from tunnels t where t.agent_id = agent),
       (select max(r.port) from released_tunnel_ports r where r.agent_id = agent)) into candidate;
     if candidate <= 29999 then return candidate; end if;
     return (select min(p) from generate_series(20000, 29999) as p
       where not exists (select from tunnels t where t.agent_id = agent and t.port = p)
         and not exists (select from released_tunnel_ports r where r.agent_id = agent and r.port = p));
   end $$`,
  // A given port is kept where it is free, so that a restored or moved tunnel keeps its port.
  `create function control_give_tunnel_port() returns trigger language plpgsql set search_path from current as $$
   begin
     perform pg_advisory_xact_lock(hashtextextended('control_tunnel_port ' || new.agent_id, 0));
     delete from released_tunnel_ports where agent_id = new.agent_id and released_at < now() - interval '1 day';
     if new.port is not null
       and not exists (select from tunnels t where t.agent_id = new.agent_id and t.port = new.port and t.id <> new.id)
       and (tg_op = 'INSERT'
         or not exists (select from released_tunnel_ports r where r.agent_id = new.agent_id and r.port = new.port)) then
       return new;
     end if;
     new.port := control_free_tunnel_port(new.agent_id);
     if new.port is null then
       raise exception 'agent % has no free port for another tunnel', new.agent_id
         using errcode = 'check_violation', constraint = 'tunnels_ports_exhausted', table = 'tunnels';
     end if;
     return new;
   end $$`,
  `create trigger tunnels_give_port before insert on tunnels for each row execute function control_give_tunnel_port()`,
  `create trigger tunnels_move_port before update of agent_id on tunnels for each row
   when (old.agent_id is distinct from new.agent_id) execute function control_give_tunnel_port()`,
  `create trigger tunnels_release_port after delete on tunnels for each row
   execute function control_release_tunnel_port()`,
  `create trigger tunnels_release_moved_port after update of agent_id on tunnels for each row
   when (old.agent_id is distinct from new.agent_id) execute function control_release_tunnel_port()`
]

/** As in 0001 and 0005, with the new columns. */
const triggers = [
  `drop trigger tunnels_updated on tunnels`,
  `create constraint trigger tunnels_updated after update on tunnels deferrable initially deferred for each row
   when (${isDifferent}) execute function control_record_change('tunnel', 'id')`,
  `drop trigger tunnels_touch on tunnels`,
  `create trigger tunnels_touch before update on tunnels for each row when (${isDifferent})
   execute function control_touch_updated_at()`,
  `drop trigger tunnels_a_redescribed on tunnels`,
  `create constraint trigger tunnels_a_redescribed after update on tunnels deferrable initially deferred for each row
   when (${isDifferent}) execute function control_describe_change('tunnel', 'id')`,
  `drop trigger tunnels_forget_report on tunnels`,
  `create trigger tunnels_forget_report before update of agent_id, domain, target, protocol, port on tunnels for each row
   when ((old.agent_id, old.domain, old.target, old.protocol, old.port)
     is distinct from (new.agent_id, new.domain, new.target, new.protocol, new.port))
   execute function control_forget_report()`
]

export const tunnelPorts = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* Effect.forEach([...columns, ...ports, ...triggers], (statement) => sql.unsafe(statement), { discard: true })
})
