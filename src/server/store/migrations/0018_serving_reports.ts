/** Migration 18: gateways report which tunnels they serve; clients report facts about WireGuard peers. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

const statements = [
  `alter table tunnels add column reported_detail text`,
  // As in 0013, with the new column.
  `create or replace function control_row_image(full_row jsonb) returns jsonb language sql immutable as $$
     select full_row - array['status', 'last_seen_at', 'session_id', 'session_node', 'session_since', 'session_address',
       'session_level', 'session_version', 'sent_revision', 'applied_revision', 'nack', 'reported_status', 'reported_at',
       'reported_session', 'reported_detail', 'revision', 'last_used_at']
   $$`,
  `create or replace function control_forget_report() returns trigger language plpgsql as $$
   begin
     new.reported_status := null;
     new.reported_at := null;
     new.reported_session := null;
     new.reported_detail := null;
     return new;
   end $$`,
  `create table tunnel_serving (
     tunnel_id text not null references tunnels (id) on delete cascade,
     gateway_id text not null references gateways (id) on delete cascade,
     session text not null,
     status text not null,
     detail text,
     since timestamptz not null,
     primary key (tunnel_id, gateway_id))`,
  `create index tunnel_serving_gateway on tunnel_serving (gateway_id)`,
  `create function control_forget_serving() returns trigger language plpgsql as $$
   begin
     delete from tunnel_serving where tunnel_id = new.id;
     return null;
   end $$`,
  `create trigger tunnels_forget_serving
   after update of agent_id, domain, target, enabled, protocol, port, listen_port, proxy_protocol, tls on tunnels
   for each row when (
     (old.agent_id, old.domain, old.target, old.enabled, old.protocol, old.port, old.listen_port, old.proxy_protocol, old.tls)
     is distinct from
     (new.agent_id, new.domain, new.target, new.enabled, new.protocol, new.port, new.listen_port, new.proxy_protocol, new.tls))
   execute function control_forget_serving()`,
  `create table peer_reports (
     reporter text not null check (reporter in ('agent', 'gateway')),
     agent_id text not null references agents (id) on delete cascade,
     gateway_id text not null references gateways (id) on delete cascade,
     session text not null,
     last_handshake_at timestamptz,
     received_bytes bigint not null,
     sent_bytes bigint not null,
     endpoint text,
     reported_at timestamptz not null,
     primary key (reporter, agent_id, gateway_id))`,
  `create index peer_reports_gateway on peer_reports (gateway_id)`
]

export const servingReports = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true })
})
