/** Migration 9: who stored each certificate, its validity, and wildcards that their gateway may no longer vouch for. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

/** The name of a domain's wildcard without its `*`; an index serves this expression. */
const parent = (domain: string) => `substring(${domain} from position('.' in ${domain}))`

const columns = ["domain", "certificate", "private_key", "expires_at"]
const isDifferent = (names: ReadonlyArray<string>) =>
  `(${names.map((name) => `old.${name}`).join(", ")}) is distinct from (${
    names.map((name) => `new.${name}`).join(", ")
  })`

const statements = [
  // Null: stored before this migration, or by a node of an earlier version.
  `alter table certificates add column source text, add column valid_from timestamptz, add column withheld boolean`,
  `create index certificates_by_source on certificates (source) where source like 'gateway:%'`,
  `create index tunnels_by_parent_domain on tunnels ((${parent("domain")}))`,
  `create table expiry_warnings (
    domain text not null,
    expires_at timestamptz not null,
    percent_left integer not null,
    primary key (domain, expires_at, percent_left)
  )`,
  // A restored row keeps its source.
  `create function control_record_source() returns trigger language plpgsql set search_path from current as $$
   begin
     if tg_op = 'UPDATE' or new.source is null then
       new.source := control_current_actor();
     end if;
     return new;
   end $$`,
  `create trigger certificates_source before insert or update of certificate on certificates for each row
   execute function control_record_source()`,
  // A wildcard of a limited gateway that covers a tunnel which the gateway does not serve. The gateway knows its key.
  `create function control_is_withheld(wildcard text, source text) returns boolean language sql stable
   set search_path from current as $$
     select $1 like '*.%' and exists (
       select from gateways g join tunnels t on t.domain = $1 or ${parent("t.domain")} = substring($1 from 2)
       where 'gateway:' || g.id = $2 and g.serves is not null
         and not (g.serves -> 'agents' @> to_jsonb(t.agent_id) or g.serves -> 'domains' @> to_jsonb(t.domain)
           or g.serves -> 'domains' @> to_jsonb('*' || ${parent("t.domain")})))
   $$`,
  // Deferred triggers run at the commit, in the order of their names. The revision's trigger comes first and holds its lock until
  // the end, so that this one sees every change that was committed before.
  `create function control_withhold_of_tunnel() returns trigger language plpgsql set search_path from current as $$
   declare
     old_domain text := case when tg_op <> 'INSERT' then old.domain end;
     new_domain text := case when tg_op <> 'DELETE' then new.domain end;
   begin
     update certificates c set withheld = control_is_withheld(c.domain, c.source)
       where c.domain in (old_domain, new_domain, '*' || ${parent("old_domain")}, '*' || ${parent("new_domain")})
         and c.source like 'gateway:%' and c.withheld is true is distinct from control_is_withheld(c.domain, c.source);
     return null;
   end $$`,
  `create function control_withhold_of_gateway() returns trigger language plpgsql set search_path from current as $$
   begin
     update certificates c set withheld = control_is_withheld(c.domain, c.source)
       where c.source = 'gateway:' || new.id and c.source like 'gateway:%'
         and c.withheld is true is distinct from control_is_withheld(c.domain, c.source);
     return null;
   end $$`,
  `create function control_withhold_certificate() returns trigger language plpgsql set search_path from current as $$
   begin
     update certificates c set withheld = control_is_withheld(c.domain, c.source)
       where c.domain = new.domain and c.withheld is true is distinct from control_is_withheld(c.domain, c.source);
     return null;
   end $$`,
  `create constraint trigger tunnels_withhold_inserted after insert or delete on tunnels deferrable initially deferred
   for each row execute function control_withhold_of_tunnel()`,
  `create constraint trigger tunnels_withhold_updated after update on tunnels deferrable initially deferred
   for each row when (${isDifferent(["domain", "agent_id"])}) execute function control_withhold_of_tunnel()`,
  `create constraint trigger gateways_withhold after update on gateways deferrable initially deferred
   for each row when (${isDifferent(["serves"])}) execute function control_withhold_of_gateway()`,
  `create constraint trigger certificates_withhold_inserted after insert on certificates deferrable initially deferred
   for each row execute function control_withhold_certificate()`,
  `create constraint trigger certificates_withhold_updated after update on certificates deferrable initially deferred
   for each row when (${isDifferent(["domain", "source"])}) execute function control_withhold_certificate()`,
  // As in 0001 and 0005, with the new columns.
  `drop trigger certificates_updated on certificates`,
  `drop trigger certificates_touch on certificates`,
  `drop trigger certificates_a_redescribed on certificates`,
  `create constraint trigger certificates_updated after update on certificates deferrable initially deferred
   for each row when (${isDifferent([...columns, "withheld"])})
   execute function control_record_change('certificate', 'domain')`,
  `create trigger certificates_touch before update on certificates for each row
   when (${isDifferent([...columns, "withheld"])}) execute function control_touch_updated_at()`,
  `create constraint trigger certificates_a_redescribed after update on certificates deferrable initially deferred
   for each row when (${isDifferent([...columns, "source", "valid_from", "withheld", "created_at"])})
   execute function control_describe_change('certificate', 'domain')`
]

export const certificateSources = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true })
})
