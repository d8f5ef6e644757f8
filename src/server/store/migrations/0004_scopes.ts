/**
 * Migration 4: scopes that limit gateways to agents and domains. Nodes of older versions ignore scopes and send everything.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

/** The columns of 0001 and the new one; only a change of one of them is a change of the network. */
const watched = [
  "id",
  "name",
  "public_ip",
  "listen_port",
  "slot",
  "wireguard_public_key",
  "wireguard_private_key",
  "serves"
]
const changed = `(${watched.map((column) => `old.${column}`).join(", ")}) is distinct from (${
  watched.map((column) => `new.${column}`).join(", ")
})`

const statements = [
  `alter table gateways add column serves jsonb check (
     serves is null or jsonb_typeof(serves) = 'object' and jsonb_typeof(serves -> 'agents') is not distinct from 'array'
       and jsonb_typeof(serves -> 'domains') is not distinct from 'array')`,
  `drop trigger gateways_updated on gateways`,
  `drop trigger gateways_touch on gateways`,
  `create constraint trigger gateways_updated after update on gateways deferrable initially deferred
     for each row when (${changed}) execute function control_record_change('gateway', 'id')`,
  `create trigger gateways_touch before update on gateways for each row when (${changed})
     execute function control_touch_updated_at()`
]

export const scopes = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true })
})
