/** Table of tunnels. */
import { HostName, type Revision, type TunnelId } from "#schema/ids.ts"
import type { Page, PageRequest } from "#schema/pagination.ts"
import { type NewTunnel, Tunnel, type TunnelPatch } from "#schema/tunnelResources.ts"
import { isUnverifiable, tunnelProblem } from "#schema/tunnelRules.ts"
import { Context, Effect, Layer, Option, Schema } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { keysetPages } from "./keysetPages.ts"
import { tunnelConditions, type TunnelFilter } from "./listFilters.ts"
import { reportedCondition, servingColumn, timestampColumns } from "./presenceColumns.ts"
import { missing } from "./ReferenceStore.ts"
import {
  auditedTransaction,
  revisionedTransaction,
  type StoreUnavailable,
  violatedConstraint,
  withStoreErrors
} from "./sql.ts"
import { makeRowReader, type UnreadableRow } from "./UnreadableRow.ts"

/** The domain belongs to another tunnel. */
export class DomainTaken extends Schema.TaggedError<DomainTaken>()("DomainTaken", { domain: Schema.NullOr(HostName) }) {
  override get message(): string {
    return `${this.domain ?? "the domain"} belongs to another tunnel`
  }
}

/** The name belongs to another tunnel. */
export class TunnelNameTaken extends Schema.TaggedError<TunnelNameTaken>()("TunnelNameTaken", {
  name: Schema.NullOr(Schema.String)
}) {
  override get message(): string {
    return `the name ${this.name ?? ""} belongs to another tunnel`
  }
}

/** The public port belongs to another tunnel of the same transport. */
export class ListenPortTaken extends Schema.TaggedError<ListenPortTaken>()("ListenPortTaken", {
  listenPort: Schema.NullOr(Schema.Int)
}) {
  override get message(): string {
    return `listenPort ${this.listenPort ?? ""} belongs to another tunnel of the same transport`
  }
}

/** The fields do not fit together. */
export class TunnelRejected extends Schema.TaggedError<TunnelRejected>()("TunnelRejected", { reason: Schema.String }) {
  override get message(): string {
    return this.reason
  }
}

/** Reasons why a tunnel cannot be stored. */
export type TunnelConflict = DomainTaken | TunnelNameTaken | ListenPortTaken | TunnelRejected | NoSuchAgent

/** The agent of the tunnel does not exist. */
export class NoSuchAgent extends Schema.TaggedError<NoSuchAgent>()("NoSuchAgent", {
  id: Schema.NullOr(Schema.String),
  suggestion: Schema.optional(Schema.String)
}) {
  override get message(): string {
    return this.id === null ? "the agent does not exist" : missing("agent", this.id, this.suggestion)
  }
}

/** A new tunnel with its id. */
export interface NewTunnelRow extends NewTunnel {
  readonly id: TunnelId
}

/** Reads and writes tunnels. */
export class TunnelStore extends Context.Service<TunnelStore, {
  create(tunnel: NewTunnelRow): Effect.Effect<Tunnel, TunnelConflict | StoreUnavailable>
  find(id: TunnelId): Effect.Effect<Option.Option<Tunnel>, UnreadableRow | StoreUnavailable>
  list(request: PageRequest, filter?: TunnelFilter): Effect.Effect<Page<Tunnel>, StoreUnavailable>
  update(
    id: TunnelId,
    patch: TunnelPatch
  ): Effect.Effect<Option.Option<Tunnel>, TunnelConflict | UnreadableRow | StoreUnavailable>
  /** Inserts or replaces the tunnel with this id. A tunnel that is equal already keeps its revision. */
  put(tunnel: NewTunnelRow): Effect.Effect<Tunnel, TunnelConflict | UnreadableRow | StoreUnavailable>
  /** Deletes the tunnel. `removed` is false if no tunnel has this id; `revision` is the newest one afterwards. */
  remove(id: TunnelId): Effect.Effect<{ readonly removed: boolean; readonly revision: Revision }, StoreUnavailable>
}>()("control/store/TunnelStore") {
  static readonly layer = Layer.effect(
    TunnelStore,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const columns = sql.literal(tunnelColumns)
      const select = (id: TunnelId) => sql`select ${columns} from tunnels where id = ${id}`

      /** Runs the deferred triggers before the commit, so that the returned row has its new revision. */
      const changeAndRead = (
        id: TunnelId,
        given: TunnelPatch,
        change: Effect.Effect<unknown, SqlError.SqlError | TunnelRejected>
      ) =>
        change.pipe(
          Effect.andThen(sql`set constraints all immediate`),
          Effect.andThen(select(id)),
          Effect.catchTag("SqlError", (error) => Effect.fail(constraintError(error, given))),
          Effect.flatMap(tunnels.first),
          auditedTransaction(sql)
        )

      const insert = (tunnel: NewTunnelRow) =>
        sql`insert into tunnels (id, agent_id, domain, target, enabled, name, protocol, listen_port, proxy_protocol, tls)
          values (${tunnel.id}, ${tunnel.agentId}, ${tunnel.domain ?? null}, ${tunnel.target}, ${
          tunnel.enabled ?? true
        },
            ${tunnel.name ?? null}, ${tunnel.protocol ?? "http"}, ${tunnel.listenPort ?? null},
            ${tunnel.proxyProtocol ?? "none"}, ${tunnel.tls ?? "verify"})`

      const create = Effect.fn("TunnelStore.create")(function*(tunnel: NewTunnelRow) {
        const created = changeAndRead(tunnel.id, tunnel, insert(tunnel))
        return Option.getOrThrow(yield* Effect.catchTag(created, "UnreadableRow", Effect.die))
      })

      const put = Effect.fn("TunnelStore.put")(function*(tunnel: NewTunnelRow) {
        const upsert = sql`${insert(tunnel)} on conflict (id) do update set agent_id = excluded.agent_id,
          domain = excluded.domain, target = excluded.target, enabled = excluded.enabled, name = excluded.name,
          protocol = excluded.protocol, listen_port = excluded.listen_port,
          proxy_protocol = excluded.proxy_protocol, tls = excluded.tls`
        return Option.getOrThrow(yield* changeAndRead(tunnel.id, tunnel, upsert))
      })

      const find = Effect.fn("TunnelStore.find")(function*(id: TunnelId) {
        return yield* tunnels.first(yield* withStoreErrors(select(id)))
      })

      const list = keysetPages(
        sql,
        { columns: tunnelColumns, from: "tunnels", orderBy: "created_at", key: "id" },
        tunnels.read,
        tunnelConditions(sql)
      )

      const update = Effect.fn("TunnelStore.update")(function*(id: TunnelId, patch: TunnelPatch) {
        return yield* changeAndRead(
          id,
          patch,
          Effect.andThen(checkPatch(sql, id, patch), updateQuery(sql, id, patch))
        )
      })

      const remove = Effect.fn("TunnelStore.remove")(function*(id: TunnelId) {
        const { revision, value } = yield* revisionedTransaction(sql)(
          sql`delete from tunnels where id = ${id} returning id`
        )
        return { removed: value.length > 0, revision }
      })

      return TunnelStore.of({ create, find, list, update, put, remove })
    })
  )
}

/** Checks the rules about several fields on the row as the patch will leave it. A row that cannot be read is not checked. */
const checkPatch = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, id: TunnelId, patch: TunnelPatch) {
  const { agentId: _, enabled: _enabled, ...shape } = patch
  if (Object.keys(shape).length === 0) return
  const rows = yield* sql`select domain, target, protocol, name, listen_port as "listenPort",
    proxy_protocol as "proxyProtocol", tls from tunnels where id = ${id} for update`
  const row = Option.getOrUndefined(decodeShape(rows[0]))
  if (row === undefined) return
  // The column does not show whether an operator chose verify; a target that needs no choice has none.
  const isChosen = row.tls === "insecure" || isUnverifiable(row.target) || shape.target === undefined
  const problem = tunnelProblem({ ...row, tls: isChosen ? row.tls : undefined, ...shape })
  if (problem !== undefined) return yield* new TunnelRejected({ reason: `${problem.path[0]}: ${problem.issue}` })
})

const decodeShape = Schema.decodeUnknownOption(Schema.Struct({
  domain: Schema.NullOr(Schema.String),
  target: Schema.String,
  protocol: Schema.String,
  name: Schema.NullOr(Schema.String),
  listenPort: Schema.NullOr(Schema.Finite),
  proxyProtocol: Schema.String,
  tls: Schema.String
}))

/** A field that is undefined keeps its value; null clears it. */
const updateQuery = (sql: SqlClient.SqlClient, id: TunnelId, patch: TunnelPatch) =>
  sql`update tunnels set agent_id = coalesce(${patch.agentId ?? null}::text, agent_id),
            domain = case when ${patch.domain !== undefined} then ${patch.domain ?? null}::text else domain end,
            target = coalesce(${patch.target ?? null}::text, target),
            enabled = coalesce(${patch.enabled ?? null}::boolean, enabled),
            name = case when ${patch.name !== undefined} then ${patch.name ?? null}::text else name end,
            protocol = coalesce(${patch.protocol ?? null}::text, protocol),
            listen_port = case when ${patch.listenPort !== undefined} then ${patch.listenPort ?? null}::integer
              else listen_port end,
            proxy_protocol = coalesce(${patch.proxyProtocol ?? null}::text, proxy_protocol),
            tls = coalesce(${patch.tls ?? null}::text, tls) where id = ${id}`

function constraintError(error: SqlError.SqlError, { agentId = null, domain = null, listenPort = null, name = null }: {
  readonly agentId?: string | null
  readonly domain?: HostName | null
  readonly listenPort?: number | null
  readonly name?: string | null
}) {
  const constraint = violatedConstraint(error)
  switch (constraint) {
    case "tunnels_domain_taken":
      return new DomainTaken({ domain })
    case "tunnels_name_taken":
      return new TunnelNameTaken({ name })
    case "tunnels_listen_port_taken":
      return new ListenPortTaken({ listenPort })
    case "tunnels_agent_exists":
      return new NoSuchAgent({ id: agentId })
    default: {
      const reason = shapeRules[constraint ?? ""]
      return reason === undefined ? error : new TunnelRejected({ reason })
    }
  }
}

/** Rules about several fields, which a change of one field can break. */
const shapeRules: Readonly<Record<string, string>> = {
  tunnels_shape_valid: "http and tls need a domain and no listenPort; tcp and udp need a name and a listenPort",
  tunnels_listen_port_allowed: "listenPort 80 and 443 of tcp serve http and tls; use another port",
  tunnels_proxy_protocol_allowed: "proxyProtocol must be none for http and udp; v1 and v2 are for tcp and tls",
  tunnels_scheme_allowed: "the target of tls, tcp and udp must be host:port without http:// or https://",
  tunnels_ports_exhausted: "the agent has no free port for another tunnel; delete tunnels or use another agent"
}

/** The revision is null only inside the transaction that writes the row, or for a row that is older than the log. */
const tunnelColumns = `id, agent_id as "agentId", domain, target, enabled, name, protocol, port,
  listen_port as "listenPort", proxy_protocol as "proxyProtocol", tls, coalesce(revision, 0)::float8 as revision,
  case when ${reportedCondition} then jsonb_build_object('status', reported_status,
    'detail', reported_detail, 'at', control_iso(coalesce(reported_at, updated_at))) end as reported, ${servingColumn} as serving, ${timestampColumns}`

const tunnels = makeRowReader(Tunnel, ({ id }) => ({ entity: "tunnel", id }))
