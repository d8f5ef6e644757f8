/** Columns that agents and gateways are shown with alike. */

/** A session that a sweep has found dead is still in its row, under the status `offline`. */
export const presenceColumns = `status, control_iso(last_seen_at) as "lastSeenAt",
  case when status = 'online' and session_id is not null then jsonb_build_object('since', control_iso(session_since),
    'address', session_address, 'level', session_level) end as session`

export const timeColumns = `control_iso(created_at) as "createdAt", control_iso(updated_at) as "updatedAt"`
