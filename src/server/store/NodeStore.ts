/** Table of nodes: leases by the database's clock, draining, and mailboxes for session takeovers. */
import { SessionId } from "#schema/ids.ts"
import { Node } from "#schema/nodes.ts"
import { Context, Duration, Effect, Layer, Schema } from "effect"
import type { SqlClient } from "effect/sql"
import { ReservedPool } from "./ReservedPool.ts"
import { type StoreUnavailable, transaction, withStoreErrors } from "./sql.ts"

/** The state that a node publishes with each renewal of its lease. */
export interface LeaseRenewal {
  readonly id: string
  readonly name: string
  readonly version: string
  readonly clients: number
  readonly revision: number
}

/** The state of a lease after its renewal. */
export interface RenewedLease {
  /** The generation of the lease. It changes after another node has marked this node's clients offline. */
  readonly epoch: string
  /** Whether another node holds a lease. */
  readonly hasOtherNodes: boolean
}

/** Renews, drains and releases the leases of nodes, and empties their mailboxes. */
export class NodeStore extends Context.Service<NodeStore, {
  /** Extends the lease to `lease` from now; creates the node's row if it is missing. Undefined for a draining node. */
  renew(node: LeaseRenewal, lease: Duration.Duration): Effect.Effect<RenewedLease | undefined, StoreUnavailable>
  /** Clears the draining flag of a node that another process has marked as draining; false if the flag was not set. */
  cancelDrain(node: string): Effect.Effect<boolean, StoreUnavailable>
  /**
   * Empties the mailbox: the sessions that other nodes have taken over since the last call. Each one is returned once. If the
   * answer is lost, the next `PresenceStore.touch` detects the takeover.
   */
  collectTakeovers(node: string): Effect.Effect<ReadonlySet<SessionId>, StoreUnavailable>
  /**
   * Marks the node as draining, if another live node can take its clients; false otherwise. The lease then ends after
   * `gracePeriod`. Until then its clients stay online, so that they can reconnect to the other node.
   */
  startDrain(node: string, gracePeriod: Duration.Duration): Effect.Effect<boolean, StoreUnavailable>
  /**
   * Ends the lease of a stopped node. Clients that the node has not released count as offline from now on. A draining node
   * keeps its lease, and its clients stay online, as long as another live node can take them.
   */
  release(node: string): Effect.Effect<void, StoreUnavailable>
  /** Ends the lease of every node. Only for a process that has the database for itself. */
  readonly expireAll: Effect.Effect<void, StoreUnavailable>
  /** Every node that is live or has ended within about the last hour, oldest first. */
  readonly list: Effect.Effect<ReadonlyArray<Node>, StoreUnavailable>
}>()("control/store/NodeStore") {
  static readonly layer = Layer.effect(
    NodeStore,
    Effect.gen(function*() {
      const sql = yield* ReservedPool

      const collectTakeovers = Effect.fn("NodeStore.collectTakeovers")(function*(node: string) {
        const rows = yield* withStoreErrors(sql`delete from takeovers where node = ${node} returning session`)
        return new Set(decodeSessions(rows).map(({ session }) => session))
      })

      const startDrain = Effect.fn("NodeStore.startDrain")(function*(node: string, gracePeriod: Duration.Duration) {
        // Serializes drains, because of two nodes that stop at once only one may hand its clients to the other.
        const rows = yield* transaction(sql)(Effect.andThen(
          sql`select pg_advisory_xact_lock(hashtext('control hand over'))`,
          sql`update nodes set draining = true, renewed_at = now(),
            lease_until = now() + make_interval(secs => ${Duration.toSeconds(gracePeriod)})
          where id = ${node} and
            exists (select 1 from nodes o where o.id <> ${node} and o.lease_until > now() and not o.draining)
          returning id`
        ))
        return rows.length > 0
      })

      /** If no live node is left, also marks clients of draining nodes offline, because they can reconnect to no node. */
      const markAllOffline = (table: string) =>
        sql`update ${sql(table)} set status = 'offline' where status = 'online' and session_node in
          (select id from nodes) and not exists (select 1 from nodes where lease_until > now() and not draining)`

      const release = Effect.fn("NodeStore.release")(function*(node: string) {
        yield* transaction(sql)(Effect.all([
          sql`delete from nodes where id = ${node} and not exists (${onlineClientsOf(node, "agents")})
            and not exists (${onlineClientsOf(node, "gateways")})`,
          sql`update nodes set lease_until = now() where id = ${node} and not draining`,
          markAllOffline("agents"),
          markAllOffline("gateways")
        ]))
      })
      const onlineClientsOf = (node: string, table: string) =>
        sql`select 1 from ${sql(table)} where status = 'online' and session_node = ${node}`

      const expireAll = withStoreErrors(sql`update nodes set lease_until = now() where lease_until > now()`).pipe(
        Effect.asVoid,
        Effect.withSpan("NodeStore.expireAll")
      )

      const list = withStoreErrors(sql`select id, name, version, control_iso(started_at) as "startedAt",
          control_iso(renewed_at) as "lastSeenAt",
          case when lease_until < now() then 'lost' when draining then 'draining' else 'live' end as state,
          case when lease_until < now() then 0 else clients end as clients, revision::float8 as revision from nodes order by nodes.started_at, id`)
        .pipe(
          Effect.map(decodeNodes),
          Effect.withSpan("NodeStore.list")
        )

      return NodeStore.of({ ...leaseMethods(sql), collectTakeovers, startDrain, release, expireAll, list })
    })
  )
}

/** Renewal of a lease. */
function leaseMethods(sql: SqlClient.SqlClient) {
  const renew = Effect.fn("NodeStore.renew")(function*(node: LeaseRenewal, lease: Duration.Duration) {
    const until = sql`now() + make_interval(secs => ${Duration.toSeconds(lease)})`
    const others = sql`exists (select 1 from nodes o where o.id <> ${node.id} and o.lease_until > now())`
    const [known] = decodeRenewed(
      yield* withStoreErrors(sql`
      update nodes set renewed_at = now(), lease_until = ${until}, clients = ${node.clients},
        revision = ${node.revision} where id = ${node.id} and not draining
      returning mark as epoch, ${others} as "hasOtherNodes"`)
    )
    if (known !== undefined) return known
    // Another renewal of this node may insert the row after the update above, so a conflict renews as well.
    const [inserted] = decodeRenewed(
      yield* withStoreErrors(sql`
      insert into nodes (id, name, version, clients, revision, lease_until)
      values (${node.id}, ${node.name}, ${node.version}, ${node.clients}, ${node.revision}, ${until})
      on conflict (id) do update set renewed_at = now(), lease_until = ${until}, clients = excluded.clients,
        revision = excluded.revision where not nodes.draining
      returning mark as epoch, ${others} as "hasOtherNodes"`)
    )
    return inserted
  })

  const cancelDrain = Effect.fn("NodeStore.cancelDrain")((node: string) =>
    Effect.map(
      withStoreErrors(sql`update nodes set draining = false where id = ${node} and draining returning id`),
      (rows) => rows.length > 0
    )
  )

  return { renew, cancelDrain }
}

const decodeRenewed = Schema.decodeUnknownSync(
  Schema.Array(Schema.Struct({ epoch: Schema.String, hasOtherNodes: Schema.Boolean }))
)
const decodeSessions = Schema.decodeUnknownSync(Schema.Array(Schema.Struct({ session: SessionId })))
const decodeNodes = Schema.decodeUnknownSync(Schema.Array(Node))
