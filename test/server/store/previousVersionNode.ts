/** The SQL statements of a node of version 0.2.0 (its src/store/{PresenceStore,ChangeLog}.ts), for one agent each. */
import type { SqlClient } from "effect/sql"

export const previousVersionNode = (sql: SqlClient.SqlClient, node: string) => ({
  /** Returns the agent if it could not be claimed. */
  claim: (id: string, session: string) =>
    sql.withTransaction(sql`with c as (select * from unnest(${[id]}::text[],
        ${[session]}::text[], ${["192.0.2.1"]}::text[], ${["plain"]}::text[], ${[""]}::text[], ${[""]}::text[],
        ${[""]}::text[], ${[""]}::text[])
        as c (id, session, address, level, version, public_ip, public_key, private_key)),
      free as (select t.id from agents t join c on c.id = t.id order by t.id for no key update of t skip locked),
      u as (update agents t set wireguard_public_key = coalesce(nullif(c.public_key, ''), t.wireguard_public_key),
          wireguard_private_key = case when c.public_key = '' then t.wireguard_private_key
            else nullif(c.private_key, '') end,
          status = 'online', last_seen_at = now(), session_id = c.session,
          session_node = ${node}, session_since = now(), session_address = c.address, session_level = c.level,
          session_version = nullif(c.version, ''), sent_revision = null, applied_revision = null, nack = null
        from c join free on free.id = c.id where t.id = c.id returning t.id)
      select c.id, ${"agents"}::text as kind, exists (select 1 from agents t where t.id = c.id) as there
      from c where not exists (select 1 from u where u.id = c.id)`),

  /** Returns the session if it still holds the agent. */
  touch: (id: string, session: string, ageMillis: number) =>
    sql.withTransaction(sql`update agents t set status = 'online',
        last_seen_at = now() - h.age_ms * interval '1 millisecond',
        sent_revision = h.sent, applied_revision = nullif(h.applied, -1), nack = nullif(h.nack, '')::jsonb
      from unnest(${[id]}::text[], ${[session]}::text[], ${[ageMillis]}::bigint[], ${[1]}::bigint[], ${[-1]}::bigint[],
        ${[""]}::text[])
        as h (id, session, age_ms, sent, applied, nack)
      where t.id = h.id and t.session_id = h.session returning t.session_id as session`),

  fate: (id: string, session: string, ageMillis: number) =>
    sql.withTransaction(sql`select h.session, coalesce(t.session_id is not null and
        t.session_since > now() - h.age_ms * interval '1 millisecond', false) as taken
      from unnest(${[id]}::text[], ${[session]}::text[],
        ${[ageMillis]}::bigint[]) as h (id, session, age_ms)
      join agents t on t.id = h.id where t.session_id is distinct from h.session`),

  release: (id: string, session: string) =>
    sql.withTransaction(
      sql`update agents t set status = 'offline', session_id = null, nack = nullif(h.nack, '')::jsonb
      from unnest(${[id]}::text[], ${[session]}::text[], ${[""]}::text[])
        as h (id, session, nack)
      where t.id = h.id and t.session_id = h.session`
    ),

  sweep: (seconds: number) =>
    sql.withTransaction(sql`update agents set status = 'offline'
      where status = 'online' and last_seen_at < now() - make_interval(secs => ${seconds}) returning id`),

  changes: (revision: number) =>
    sql<Record<string, unknown>>`select ${sql.literal(timelineExpression)} as timeline, m.revision::float8 as newest,
        (select min(revision)::float8 from changes) as oldest,
        (select tag from changes where revision = ${revision}) as tag_before,
        c.revision::float8 as revision, c.tag, c.entity, c.op, c.entity_id, c.row_image
      from control_meta m left join lateral
        (select * from changes where revision > ${revision} order by revision limit ${256}) c on true
      order by c.revision`
})

const timelineExpression = `md5(concat_ws(':', m.timeline, (select system_identifier from pg_control_system()),
  substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)))::uuid::text`
