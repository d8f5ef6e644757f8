/** Migration 15: the audit names the client that changes its row, and its address. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

const statements = [
  // One transaction writes the logins of many clients as the actor `client`.
  `create function control_address_of_client(entity text, entity_id text) returns text language sql stable
   set search_path from current as $$
     select session_address from agents where $1 = 'agent' and id = $2
     union all select session_address from gateways where $1 = 'gateway' and id = $2
   $$`,
  // As in 0005, except for this actor.
  `create or replace function control_audit(entity text, op text, entity_id text, name text, fields text[], revision bigint)
   returns void language sql set search_path from current as $$
     insert into audit (actor, actor_name, address, entity, op, entity_id, name, fields, revision) values (
       case control_current_actor() when 'client' then $1 || ':' || $3 else control_current_actor() end,
       nullif(current_setting('control.actor_name', true), ''),
       case when nullif(current_setting('control.actor', true), '') is null then host(inet_client_addr())
         when control_current_actor() = 'client' then control_address_of_client($1, $3)
         else nullif(current_setting('control.address', true), '') end,
       $1, $2, $3, $4, $5, $6)
   $$`
]

export const clientAudit = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true })
})
