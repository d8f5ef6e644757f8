/** Columns that agents and gateways are shown with alike. */

/** How far a client has come, in its own row or in one made of it. */
export const progressColumns = `sent_revision::float8 as "sentRevision", applied_revision::float8 as "appliedRevision",
  nack as "lastNack"`

/**
 * Whether a client is connected, from its row: its session is there, and the lease of the node that holds it has not lapsed.
 * A node that holds no lease, being of a version without them, is believed until the sweep.
 */
export const isOnline = `status = 'online' and session_id is not null and
  not exists (select 1 from nodes n where n.id = session_node and n.lease_until < now())`

/** A session that a sweep has found dead is still in its row, under the status `offline`. */
export const presenceColumns = `case when ${isOnline} then 'online' else 'offline' end as status,
  control_iso(last_seen_at) as "lastSeenAt",
  case when ${isOnline} then jsonb_build_object('since', control_iso(session_since),
    'address', session_address, 'level', session_level, 'clientVersion', session_version) end as session,
  case when ${isOnline} then sent_revision::float8 end as "sentRevision",
  case when ${isOnline} then applied_revision::float8 end as "appliedRevision", nack as "lastNack"`

export const timeColumns = `control_iso(created_at) as "createdAt", control_iso(updated_at) as "updatedAt"`
