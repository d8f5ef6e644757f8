/** The processes that serve this database: their leases by its clock, and what they are told by each other. */
import { SessionId } from "#schema/ids.ts"
import { Node } from "#schema/nodes.ts"
import { Context, Duration, Effect, Layer, Schema } from "effect"
import type { SqlClient } from "effect/sql"
import { ReservedPool } from "./ReservedPool.ts"
import { atEdge, type StoreUnavailable, transaction } from "./sql.ts"

/** What a node says of itself with each renewal. */
export interface Renewal {
  readonly id: string
  readonly name: string
  readonly version: string
  readonly clients: number
  readonly revision: number
}

/** The lease lasts again. */
export interface Renewed {
  /** Another one after somebody has shown this node's clients offline. */
  readonly mark: string
  /** Whether another node lives. */
  readonly hasOthers: boolean
}

export class NodeStore extends Context.Service<NodeStore, {
  /** The node lives, for so long from now. Gives nothing for a node that drains, whose lease ends when it does. */
  renew(node: Renewal, lease: Duration.Duration): Effect.Effect<Renewed | undefined, StoreUnavailable>
  /** The node does not drain, whatever its row says: somebody else has written that. */
  reclaim(node: string): Effect.Effect<void, StoreUnavailable>
  /** The sessions that other nodes have taken over since the last time. They are told once: `touch` is the net below. */
  collect(node: string): Effect.Effect<ReadonlySet<SessionId>, StoreUnavailable>
  /** If there is another node to go to, this one's clients have so long to come to it before they are shown offline. */
  handOver(node: string, patience: Duration.Duration): Effect.Effect<boolean, StoreUnavailable>
  /** The node has stopped; what it could not release counts as offline from now on. */
  leave(node: string): Effect.Effect<void, StoreUnavailable>
  /** Every node that lives or was there lately, the oldest first. */
  readonly list: Effect.Effect<ReadonlyArray<Node>, StoreUnavailable>
}>()("control/store/NodeStore") {
  static readonly layer = Layer.effect(
    NodeStore,
    Effect.gen(function*() {
      const sql = yield* ReservedPool

      const collect = Effect.fn("NodeStore.collect")(function*(node: string) {
        const rows = yield* atEdge(sql`delete from takeovers where node = ${node} returning session`)
        return new Set(decodeSessions(rows).map(({ session }) => session))
      })

      const handOver = Effect.fn("NodeStore.handOver")(function*(node: string, patience: Duration.Duration) {
        // One after another: of two that stop at once, only one may count on the other.
        const rows = yield* transaction(sql)(Effect.andThen(
          sql`select pg_advisory_xact_lock(hashtext('control hand over'))`,
          sql`update nodes set draining = true, renewed_at = now(),
            lease_until = now() + make_interval(secs => ${Duration.toSeconds(patience)})
          where id = ${node} and
            exists (select 1 from nodes o where o.id <> ${node} and o.lease_until > now() and not o.draining)
          returning id`
        ))
        return rows.length > 0
      })

      /** Without anybody to come to, those on their way from another node that has stopped are offline, too. */
      const endWith = (table: string) =>
        sql`update ${sql(table)} set status = 'offline' where status = 'online' and session_node in
          (select id from nodes) and not exists (select 1 from nodes where lease_until > now() and not draining)`

      const leave = Effect.fn("NodeStore.leave")(function*(node: string) {
        yield* transaction(sql)(Effect.all([
          sql`delete from nodes where id = ${node} and not exists (${heldBy(node, "agents")})
            and not exists (${heldBy(node, "gateways")})`,
          sql`update nodes set lease_until = now() where id = ${node} and not draining`,
          endWith("agents"),
          endWith("gateways")
        ]))
      })
      const heldBy = (node: string, table: string) =>
        sql`select 1 from ${sql(table)} where status = 'online' and session_node = ${node}`

      const list = atEdge(sql`select id, name, version, control_iso(started_at) as "startedAt",
          control_iso(renewed_at) as "lastSeenAt",
          case when lease_until < now() then 'lost' when draining then 'draining' else 'live' end as state,
          case when lease_until < now() then 0 else clients end as clients, revision::float8 as revision from nodes order by nodes.started_at, id`)
        .pipe(
          Effect.map(decodeNodes),
          Effect.withSpan("NodeStore.list")
        )

      return NodeStore.of({ ...leases(sql), collect, handOver, leave, list })
    })
  )
}

/** How a node keeps its lease. */
function leases(sql: SqlClient.SqlClient) {
  const renew = Effect.fn("NodeStore.renew")(function*(node: Renewal, lease: Duration.Duration) {
    const until = sql`now() + make_interval(secs => ${Duration.toSeconds(lease)})`
    const others = sql`exists (select 1 from nodes o where o.id <> ${node.id} and o.lease_until > now())`
    const [known] = decodeRenewed(
      yield* atEdge(sql`
      update nodes set renewed_at = now(), lease_until = ${until}, clients = ${node.clients},
        revision = ${node.revision} where id = ${node.id} and not draining
      returning mark, ${others} as "hasOthers"`)
    )
    if (known !== undefined) return known
    // On its own: a renewal that arrives late, from a node that has left meanwhile, must not bring its row back.
    const [made] = decodeRenewed(
      yield* atEdge(sql`
      insert into nodes (id, name, version, clients, revision, lease_until)
      values (${node.id}, ${node.name}, ${node.version}, ${node.clients}, ${node.revision}, ${until})
      on conflict (id) do nothing returning mark, ${others} as "hasOthers"`)
    )
    return made
  })

  const reclaim = Effect.fn("NodeStore.reclaim")((node: string) =>
    Effect.asVoid(atEdge(sql`update nodes set draining = false where id = ${node} and draining`))
  )

  return { renew, reclaim }
}

const decodeRenewed = Schema.decodeUnknownSync(
  Schema.Array(Schema.Struct({ mark: Schema.String, hasOthers: Schema.Boolean }))
)
const decodeSessions = Schema.decodeUnknownSync(Schema.Array(Schema.Struct({ session: SessionId })))
const decodeNodes = Schema.decodeUnknownSync(Schema.Array(Node))
