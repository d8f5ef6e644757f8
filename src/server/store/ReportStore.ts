/** Reports of clients: tunnels that gateways serve, agents' status, and facts about WireGuard peers. */
import {
  AgentId,
  type ClientRef,
  ClientType,
  GatewayId,
  Revision,
  type SessionId,
  Timestamp,
  TunnelId
} from "#schema/ids.ts"
import { PeerReport } from "#schema/statusMessage.ts"
import { Context, Effect, Layer, Schema } from "effect"
import { SqlClient } from "effect/sql"
import { onlineCondition } from "./presenceColumns.ts"
import { type StoreUnavailable, withStoreErrors } from "./sql.ts"

/** The status that a client reports for one tunnel of its view. */
export interface TunnelStatusReport {
  readonly client: ClientRef
  /** The client's session. A report of an earlier session is not stored. */
  readonly session: SessionId
  /** Id of the tunnel; null if the report names the domain. */
  readonly id: string | null
  /** Domain in lower case; used if `id` is null. */
  readonly domain: string | null
  readonly status: string
  readonly detail: string | null
  /** Revision that the client had applied; null if unknown. A report about a tunnel that has changed since is not stored. */
  readonly revision: number | null
  /** Age of the report in milliseconds. */
  readonly ageMillis: number
}

/** Facts about a peer, with the client that reports them. */
export interface PeerFactsReport {
  readonly client: ClientRef
  readonly session: SessionId
  readonly peer: PeerReport
  readonly ageMillis: number
}

/** A gateway's report about a tunnel that differs from its report before. */
const ServingChange = Schema.Struct({
  tunnelId: TunnelId,
  domain: Schema.NullOr(Schema.String),
  gatewayId: GatewayId,
  status: Schema.String,
  detail: Schema.NullOr(Schema.String),
  /** Null if there was no valid report before. */
  previous: Schema.NullOr(Schema.String)
})
export type ServingChange = typeof ServingChange.Type

/** An online gateway at `control.v1`, and its report about one tunnel. */
const GatewayServing = Schema.Struct({
  gatewayId: GatewayId,
  gatewayName: Schema.String,
  /** Null if the gateway has not reported. */
  status: Schema.NullOr(Schema.String),
  detail: Schema.NullOr(Schema.String),
  since: Schema.NullOr(Timestamp)
})
export type GatewayServing = typeof GatewayServing.Type

/** A client with its delivery state, for comparison with a tunnel's revision. */
const ClientProgress = Schema.Struct({
  clientType: ClientType,
  clientId: Schema.Union([AgentId, GatewayId]),
  clientName: Schema.String,
  status: Schema.Literals(["online", "offline"]),
  sentRevision: Schema.NullOr(Revision),
  appliedRevision: Schema.NullOr(Revision)
})
export type ClientProgress = typeof ClientProgress.Type

export class ReportStore extends Context.Service<ReportStore, {
  /** Stores agents' status where it has changed; returns the number of changed rows. */
  recordAgentReports(reports: ReadonlyArray<TunnelStatusReport>): Effect.Effect<number, StoreUnavailable>
  /** Stores gateways' status where it has changed, and returns the changes. */
  recordGatewayReports(
    reports: ReadonlyArray<TunnelStatusReport>
  ): Effect.Effect<ReadonlyArray<ServingChange>, StoreUnavailable>
  recordPeers(reports: ReadonlyArray<PeerFactsReport>): Effect.Effect<void, StoreUnavailable>
  /** Reports of the client's open session about its peers, the newest 1,000 by handshake. */
  peersOf(client: ClientRef): Effect.Effect<ReadonlyArray<PeerReport>, StoreUnavailable>
  /** All online gateways at `control.v1`, by name, each with its report about the tunnel. */
  servingOf(tunnel: TunnelId): Effect.Effect<ReadonlyArray<GatewayServing>, StoreUnavailable>
  /** The agent and all gateways, by type and name. */
  progressOf(agent: AgentId): Effect.Effect<ReadonlyArray<ClientProgress>, StoreUnavailable>
}>()("control/store/ReportStore") {
  static readonly layer = Layer.effect(
    ReportStore,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient

      const peersOf = Effect.fn("ReportStore.peersOf")(function*({ id, type }: ClientRef) {
        const own = sql.literal(type === "agent" ? "agent_id" : "gateway_id")
        const peer = sql.literal(type === "agent" ? "gateway_id" : "agent_id")
        const rows = yield* withStoreErrors(
          sql`select ${peer} as id, control_iso(last_handshake_at) as "lastHandshakeAt",
          received_bytes::float8 as "receivedBytes", sent_bytes::float8 as "sentBytes", endpoint
          from peer_reports p where p.reporter = ${type} and p.${own} = ${id} and exists (select 1
            from ${sql.literal(`${type}s`)} where id = p.${own} and session_id = p.session and ${
            sql.literal(onlineCondition)
          })
          order by last_handshake_at desc nulls last, 1 limit ${maxPeers}`
        )
        return yield* decodePeers(rows)
      })

      const servingOf = Effect.fn("ReportStore.servingOf")(function*(tunnel: TunnelId) {
        const rows = yield* withStoreErrors(sql`select g.id as "gatewayId", g.name as "gatewayName", s.status, s.detail,
          control_iso(s.since) as since from (select id, name, session_id from gateways
            where session_level <> 'plain' and ${sql.literal(onlineCondition)}) g
          left join tunnel_serving s on s.tunnel_id = ${tunnel} and s.gateway_id = g.id and s.session = g.session_id
          order by g.name, g.id`)
        return yield* decodeServing(rows)
      })

      const progressOf = Effect.fn("ReportStore.progressOf")(function*(agent: AgentId) {
        const columns = sql.literal(`id as "clientId", name as "clientName",
          case when ${onlineCondition} then 'online' else 'offline' end as status,
          case when ${onlineCondition} then sent_revision::float8 end as "sentRevision",
          case when ${onlineCondition} then applied_revision::float8 end as "appliedRevision"`)
        const rows = yield* withStoreErrors(
          sql`select 'agent' as "clientType", ${columns} from agents where id = ${agent}
          union all (select 'gateway', ${columns} from gateways order by name, id)`
        )
        return yield* decodeProgress(rows)
      })

      return ReportStore.of({
        recordAgentReports: recordAgentReportsIn(sql),
        recordGatewayReports: recordGatewayReportsIn(sql),
        recordPeers: recordPeersIn(sql),
        peersOf,
        servingOf,
        progressOf
      })
    })
  )
}

const maxPeers = 1_000

const decodePeers = (rows: unknown) => Effect.orDie(Schema.decodeUnknownEffect(Schema.Array(PeerReport))(rows))
const decodeServing = (rows: unknown) => Effect.orDie(Schema.decodeUnknownEffect(Schema.Array(GatewayServing))(rows))
const decodeProgress = (rows: unknown) => Effect.orDie(Schema.decodeUnknownEffect(Schema.Array(ClientProgress))(rows))
const decodeChanges = (rows: unknown) => Effect.orDie(Schema.decodeUnknownEffect(Schema.Array(ServingChange))(rows))

/** Reports with the tunnels that they are about. Only `http` and `tls` tunnels are unique by domain. */
const reportedTunnels = (sql: SqlClient.SqlClient, reports: ReadonlyArray<TunnelStatusReport>) => {
  const rows = reports.map(({ ageMillis, client, detail, domain, id, revision, session, status }) => (
    { client: client.id, session, id, domain, status, detail, revision, age_ms: Math.round(ageMillis) }
  ))
  return sql`r as (select * from json_to_recordset(${JSON.stringify(rows)}::text::json) as r (client text, session text,
      id text, domain text, status text, detail text, revision bigint, age_ms bigint)),
    named as (
      select r.*, t.id as tunnel_id from r join tunnels t on t.id = r.id
      union all
      select r.*, t.id from r join tunnels t on r.id is null and t.domain = r.domain and t.protocol in ('http', 'tls')),
    newest as (select distinct on (client, tunnel_id) * from named order by client, tunnel_id, age_ms)`
}

const isCurrent = "(r.revision is null or coalesce(t.revision, 0) <= r.revision)"

const recordAgentReportsIn = (sql: SqlClient.SqlClient) =>
  Effect.fn("ReportStore.recordAgentReports")(function*(reports: ReadonlyArray<TunnelStatusReport>) {
    const rows = yield* withStoreErrors(sql`with ${reportedTunnels(sql, reports)}
      update tunnels t set reported_status = r.status, reported_session = r.session, reported_detail = r.detail,
        reported_at = case when (t.reported_status, t.reported_session) is distinct from (r.status, r.session)
          then now() - r.age_ms * interval '1 millisecond' else t.reported_at end
      from newest r join agents a on a.id = r.client and a.session_id = r.session
      where t.id = r.tunnel_id and t.agent_id = r.client and ${sql.literal(isCurrent)}
        and (t.reported_status, t.reported_session, t.reported_detail) is distinct from (r.status, r.session, r.detail)
      returning t.id`)
    return rows.length
  })

const recordGatewayReportsIn = (sql: SqlClient.SqlClient) =>
  Effect.fn("ReportStore.recordGatewayReports")(function*(reports: ReadonlyArray<TunnelStatusReport>) {
    const rows = yield* withStoreErrors(sql`with ${reportedTunnels(sql, reports)},
      valid as (select r.*, t.domain as tunnel_domain from newest r join tunnels t on t.id = r.tunnel_id
        join gateways g on g.id = r.client and g.session_id = r.session
        where t.enabled and ${sql.literal(isCurrent)} order by t.id, g.id for key share of t, g),
      before as (select s.* from tunnel_serving s join valid v on v.tunnel_id = s.tunnel_id and v.client = s.gateway_id),
      written as (insert into tunnel_serving as s (tunnel_id, gateway_id, session, status, detail, since)
        select tunnel_id, client, session, status, detail, now() - age_ms * interval '1 millisecond' from valid
        on conflict (tunnel_id, gateway_id) do update set session = excluded.session, status = excluded.status,
          detail = excluded.detail, since = case when (s.status, s.session) is distinct from
            (excluded.status, excluded.session) then excluded.since else s.since end
        where (s.session, s.status, s.detail) is distinct from (excluded.session, excluded.status, excluded.detail)
        returning *)
      select w.tunnel_id as "tunnelId", v.tunnel_domain as domain, w.gateway_id as "gatewayId", w.status, w.detail,
        b.status as previous
      from written w join valid v on v.tunnel_id = w.tunnel_id and v.client = w.gateway_id
      left join before b on b.tunnel_id = w.tunnel_id and b.gateway_id = w.gateway_id`)
    return yield* decodeChanges(rows)
  })

const recordPeersIn = (sql: SqlClient.SqlClient) =>
  Effect.fn("ReportStore.recordPeers")(function*(reports: ReadonlyArray<PeerFactsReport>) {
    const rows = reports.map(({ ageMillis, client, peer, session }) => ({
      reporter: client.type,
      agent_id: client.type === "agent" ? client.id : peer.id,
      gateway_id: client.type === "gateway" ? client.id : peer.id,
      session,
      last_handshake_at: peer.lastHandshakeAt,
      received_bytes: peer.receivedBytes,
      sent_bytes: peer.sentBytes,
      endpoint: peer.endpoint,
      age_ms: Math.round(ageMillis)
    }))
    yield* withStoreErrors(sql`insert into peer_reports (reporter, agent_id, gateway_id, session, last_handshake_at,
        received_bytes, sent_bytes, endpoint, reported_at)
      select r.reporter, a.id, g.id, r.session, r.last_handshake_at, r.received_bytes, r.sent_bytes, r.endpoint,
        now() - r.age_ms * interval '1 millisecond'
      from json_to_recordset(${JSON.stringify(rows)}::text::json) as r (reporter text, agent_id text, gateway_id text,
        session text, last_handshake_at timestamptz, received_bytes bigint, sent_bytes bigint, endpoint text, age_ms bigint)
      join agents a on a.id = r.agent_id join gateways g on g.id = r.gateway_id
      where r.session = case r.reporter when 'agent' then a.session_id else g.session_id end
      order by r.reporter, a.id, g.id for key share of a, g
      on conflict (reporter, agent_id, gateway_id) do update set session = excluded.session,
        last_handshake_at = excluded.last_handshake_at, received_bytes = excluded.received_bytes,
        sent_bytes = excluded.sent_bytes, endpoint = excluded.endpoint, reported_at = excluded.reported_at`)
  })
