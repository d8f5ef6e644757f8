/** Migration 10: a WireGuard public key belongs to one client, whichever node or program writes it. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

const kinds = [{ kind: "agent", table: "agents" }, { kind: "gateway", table: "gateways" }] as const

/** Text that is no key does not count, because its row is unreadable. */
const isKey = (column: string) => `${column} ~ '^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$'`

const holders = kinds.map(({ kind, table }) =>
  `select wireguard_public_key as public_key, '${kind}:' || id as owner, created_at from ${table}
   where ${isKey("wireguard_public_key")}`
).join(" union all ")

const statements = [
  `create table wireguard_keys (
    public_key text constraint wireguard_key_taken primary key,
    owner text not null
  )`,
  ...kinds.map(({ table }) => `create index ${table}_by_wireguard_key on ${table} (wireguard_public_key)`),
  // Clients that share a key from before this migration keep it. The key belongs to the oldest of them.
  `create function control_collect_wireguard_keys() returns void language sql set search_path from current as $$
     delete from wireguard_keys;
     insert into wireguard_keys (public_key, owner)
       select distinct on (public_key) public_key, owner from (${holders}) h order by public_key, created_at, owner
   $$`,
  // A key that its owner gives up goes to a client that shares it from before this migration.
  `create function control_hold_wireguard_key() returns trigger language plpgsql set search_path from current as $$
   declare
     old_owner text := case when tg_op <> 'INSERT' then tg_argv[0] || ':' || old.id end;
     new_owner text := case when tg_op <> 'DELETE' then tg_argv[0] || ':' || new.id end;
   begin
     if tg_op <> 'INSERT' then
       delete from wireguard_keys where public_key = old.wireguard_public_key and owner = old_owner;
       if found then
         insert into wireguard_keys (public_key, owner)
           select public_key, owner from (${holders}) h where public_key = old.wireguard_public_key
             and owner is distinct from new_owner order by created_at, owner limit 1
           on conflict do nothing;
       end if;
     end if;
     if tg_op <> 'DELETE' and ${isKey("new.wireguard_public_key")} and not exists (
       select from wireguard_keys where public_key = new.wireguard_public_key and owner = new_owner
     ) then
       insert into wireguard_keys (public_key, owner) values (new.wireguard_public_key, new_owner);
     end if;
     return null;
   end $$`,
  ...kinds.flatMap(({ kind, table }) => [
    `create trigger ${table}_hold_wireguard_key after insert or delete on ${table} for each row
     execute function control_hold_wireguard_key('${kind}')`,
    `create trigger ${table}_change_wireguard_key after update on ${table} for each row
     when ((old.id, old.wireguard_public_key) is distinct from (new.id, new.wireguard_public_key))
     execute function control_hold_wireguard_key('${kind}')`
  ]),
  `select control_collect_wireguard_keys()`
]

export const wireguardKeys = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true })
})
