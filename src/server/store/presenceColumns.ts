/** SQL columns that agents and gateways have in common. */

/** Delivery state of a client, from its own row or from a row that is derived from it. */
export const deliveryColumns = `sent_revision::float8 as "sentRevision", applied_revision::float8 as "appliedRevision",
  nack as "lastNack"`

/**
 * Condition for a client that is online: it has a session, and the lease of the session's node has not expired. A node of a
 * version without leases has no row here; its clients count as online until they expire.
 */
export const onlineCondition = `status = 'online' and session_id is not null and
  not exists (select 1 from nodes n where n.id = session_node and n.lease_until < now())`

/** Condition for a tunnel whose status was reported by the open session of its agent. */
export const reportedCondition = `(reported_status is not null and exists (select 1 from agents
  where agents.id = tunnels.agent_id and agents.session_id = tunnels.reported_session and ${onlineCondition}))`

/** Reports of online gateways that a tunnel of the outer query is or is not served, by the name of the gateway. */
export const servingColumn = `(select coalesce(jsonb_agg(jsonb_build_object('gatewayId', g.id, 'gatewayName', g.name,
    'status', s.status, 'detail', s.detail, 'since', control_iso(s.since)) order by g.name, g.id), '[]')
  from tunnel_serving s join (select id, name, session_id from gateways where ${onlineCondition}) g
    on g.id = s.gateway_id and g.session_id = s.session
  where s.tunnel_id = tunnels.id)`

/** An expired session stays in its row with the status `offline`, so every column checks `onlineCondition`. */
export const presenceColumns = `case when ${onlineCondition} then 'online' else 'offline' end as status,
  control_iso(last_seen_at) as "lastSeenAt",
  case when ${onlineCondition} then jsonb_build_object('since', control_iso(session_since),
    'address', session_address, 'level', session_level, 'clientVersion', session_version) end as session,
  case when ${onlineCondition} then sent_revision::float8 end as "sentRevision",
  case when ${onlineCondition} then applied_revision::float8 end as "appliedRevision", nack as "lastNack"`

/** Creation and update times as RFC 3339 text. */
export const timestampColumns = `control_iso(created_at) as "createdAt", control_iso(updated_at) as "updatedAt"`
