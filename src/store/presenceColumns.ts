/** Columns that agents and gateways are shown with alike. */

/** How far a client has come, in its own row or in one made of it. */
export const progressColumns = `sent_revision::float8 as "sentRevision", applied_revision::float8 as "appliedRevision",
  nack as "lastNack"`

/** A session that a sweep has found dead is still in its row, under the status `offline`. */
export const presenceColumns = `status, control_iso(last_seen_at) as "lastSeenAt",
  case when status = 'online' and session_id is not null then jsonb_build_object('since', control_iso(session_since),
    'address', session_address, 'level', session_level, 'clientVersion', session_version) end as session,
  case when status = 'online' then sent_revision::float8 end as "sentRevision",
  case when status = 'online' then applied_revision::float8 end as "appliedRevision", nack as "lastNack"`

export const timeColumns = `control_iso(created_at) as "createdAt", control_iso(updated_at) as "updatedAt"`
