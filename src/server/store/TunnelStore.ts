/** The table of tunnels. */
import { AgentId, HostName, type Revision, type TunnelId } from "#schema/ids.ts"
import { type NewTunnel, type Page, type PageRequest, Tunnel, type TunnelPatch } from "#schema/resources.ts"
import { Context, Effect, Layer, Option, Schema } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { keysetPages } from "./keysetPages.ts"
import { timeColumns } from "./presenceColumns.ts"
import { atEdge, type StoreUnavailable, violated, write, writing } from "./sql.ts"
import { readerOf, type UnreadableRow } from "./UnreadableRow.ts"

/** Another tunnel has the domain. */
export class DomainTaken extends Schema.TaggedError<DomainTaken>()("DomainTaken", { domain: Schema.NullOr(HostName) }) {
  override get message(): string {
    return `${this.domain ?? "the domain"} belongs to another tunnel`
  }
}

/** A tunnel must lead to an agent that exists. */
export class NoSuchAgent extends Schema.TaggedError<NoSuchAgent>()("NoSuchAgent", { id: Schema.NullOr(AgentId) }) {
  override get message(): string {
    return `there is no agent ${this.id ?? "of that id"}`
  }
}

export interface NewTunnelRow extends NewTunnel {
  readonly id: TunnelId
}

/** What an agent has said of one of its tunnels. */
export interface Report {
  readonly agent: AgentId
  readonly domain: string
  readonly status: string
  /** How long ago it was said, in milliseconds. */
  readonly ageMillis: number
}

export class TunnelStore extends Context.Service<TunnelStore, {
  create(tunnel: NewTunnelRow): Effect.Effect<Tunnel, DomainTaken | NoSuchAgent | StoreUnavailable>
  find(id: TunnelId): Effect.Effect<Option.Option<Tunnel>, UnreadableRow | StoreUnavailable>
  list(request: PageRequest): Effect.Effect<Page<Tunnel>, StoreUnavailable>
  update(
    id: TunnelId,
    patch: TunnelPatch
  ): Effect.Effect<Option.Option<Tunnel>, DomainTaken | NoSuchAgent | UnreadableRow | StoreUnavailable>
  /** Makes the row of this id so, whether or not it is there; one that is so already keeps its revision. */
  put(tunnel: NewTunnelRow): Effect.Effect<Tunnel, DomainTaken | NoSuchAgent | UnreadableRow | StoreUnavailable>
  /** Tells whether it was there, and the newest revision afterwards. */
  remove(id: TunnelId): Effect.Effect<{ readonly removed: boolean; readonly revision: Revision }, StoreUnavailable>
  /** Keeps what agents say of their own tunnels, where it is new; gives back how many rows that was. */
  report(reports: ReadonlyArray<Report>): Effect.Effect<number, StoreUnavailable>
}>()("control/store/TunnelStore") {
  static readonly layer = Layer.effect(
    TunnelStore,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const columns = sql.literal(tunnelColumns)
      const select = (id: TunnelId) => sql`select ${columns} from tunnels where id = ${id}`

      /** The revision is set when the transaction ends, or here: so that the row can be given back with it. */
      const written = (
        id: TunnelId,
        { agentId, domain }: TunnelPatch,
        change: Effect.Effect<unknown, SqlError.SqlError>
      ) =>
        change.pipe(
          Effect.andThen(sql`set constraints all immediate`),
          Effect.andThen(select(id)),
          Effect.catchTag("SqlError", (error) => Effect.fail(refusal(error, agentId ?? null, domain ?? null))),
          Effect.flatMap(tunnels.first),
          writing(sql)
        )

      const insert = (tunnel: NewTunnelRow) =>
        sql`insert into tunnels (id, agent_id, domain, target, enabled)
          values (${tunnel.id}, ${tunnel.agentId}, ${tunnel.domain}, ${tunnel.target}, ${tunnel.enabled ?? true})`

      const create = Effect.fn("TunnelStore.create")(function*(tunnel: NewTunnelRow) {
        const created = written(tunnel.id, tunnel, insert(tunnel))
        return Option.getOrThrow(yield* Effect.catchTag(created, "UnreadableRow", Effect.die))
      })

      const put = Effect.fn("TunnelStore.put")(function*(tunnel: NewTunnelRow) {
        const upsert = sql`${insert(tunnel)} on conflict (id) do update set agent_id = excluded.agent_id,
          domain = excluded.domain, target = excluded.target, enabled = excluded.enabled`
        return Option.getOrThrow(yield* written(tunnel.id, tunnel, upsert))
      })

      const find = Effect.fn("TunnelStore.find")(function*(id: TunnelId) {
        return yield* tunnels.first(yield* atEdge(select(id)))
      })

      const list = keysetPages(
        sql,
        { columns: tunnelColumns, from: "tunnels", when: "created_at", key: "id" },
        tunnels.read
      )

      const update = Effect.fn("TunnelStore.update")(function*(id: TunnelId, patch: TunnelPatch) {
        return yield* written(
          id,
          patch,
          sql`update tunnels set agent_id = coalesce(${patch.agentId ?? null}::text, agent_id),
            domain = coalesce(${patch.domain ?? null}::text, domain),
            target = coalesce(${patch.target ?? null}::text, target),
            enabled = coalesce(${patch.enabled ?? null}::boolean, enabled) where id = ${id}`
        )
      })

      const remove = Effect.fn("TunnelStore.remove")(function*(id: TunnelId) {
        const { revision, value } = yield* write(sql)(sql`delete from tunnels where id = ${id} returning id`)
        return { removed: value.length > 0, revision }
      })

      return TunnelStore.of({ create, find, list, update, put, remove, report: reportTo(sql) })
    })
  )
}

const reportTo = (sql: SqlClient.SqlClient) =>
  Effect.fn("TunnelStore.report")(function*(reports: ReadonlyArray<Report>) {
    const rows = yield* atEdge(sql`
    update tunnels t set reported_status = r.status, reported_at = now() - r.age_ms * interval '1 millisecond'
    from unnest(${reports.map(({ agent }) => agent)}::text[], ${reports.map(({ domain }) => domain)}::text[],
      ${reports.map(({ status }) => status)}::text[],
      ${reports.map(({ ageMillis }) => Math.round(ageMillis))}::bigint[]) as r (agent, domain, status, age_ms)
    where t.domain = r.domain and t.agent_id = r.agent and t.reported_status is distinct from r.status
    returning t.id`)
    return rows.length
  })

function refusal(error: SqlError.SqlError, agentId: AgentId | null, domain: HostName | null) {
  switch (violated(error)) {
    case "tunnels_domain_taken":
      return new DomainTaken({ domain })
    case "tunnels_agent_exists":
      return new NoSuchAgent({ id: agentId })
    default:
      return error
  }
}

/** The revision is null only in the transaction that has just written the row, or for a row older than the log. */
const tunnelColumns = `id, agent_id as "agentId", domain, target, enabled, coalesce(revision, 0)::float8 as revision,
  case when reported_status is not null then jsonb_build_object('status', reported_status,
    'at', control_iso(coalesce(reported_at, updated_at))) end as reported, ${timeColumns}`

const tunnels = readerOf(Tunnel, ({ id }) => ({ entity: "tunnel", id }))
