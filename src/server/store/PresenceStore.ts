/** Presence of agents and gateways: batched writes, fenced by sessions and node leases. */
import { Nack, type RecordedNack } from "#schema/messagesFromClients.ts"
import { AgentId, type ClientRef, type ClientType, formatClientRef, GatewayId, Revision } from "#schema/ids.ts"
import type { Page, PageRequest } from "#schema/pagination.ts"
import { ConnectedClient } from "#schema/resources.ts"
import { Context, type Duration, Effect, Layer, Schema } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { keysetPages, type KeysetQuery } from "./keysetPages.ts"
import { clientConditions, type ClientFilter } from "./listFilters.ts"
import { deliveryColumns, onlineCondition } from "./presenceColumns.ts"
import { claimResultOf, lossCausesOf, releaseResultOf, touchResultOf } from "./presenceResults.ts"
import { ReservedPool } from "./ReservedPool.ts"
import {
  claimRows,
  classifyLostRows,
  expireSessionRows,
  type PresenceTable,
  releaseRows,
  type ResultRows,
  touchRows,
  writesAuditedColumns
} from "./presenceStatements.ts"
import { Secrets } from "./secrets/Secrets.ts"
import {
  type Claim,
  type ClaimResult,
  type ClientSession,
  type EndedSession,
  type ExpiredSession,
  LeaseLapsed,
  type LossCauses,
  type LostSession,
  type ReleaseResult,
  type SessionTouch,
  type TouchResult
} from "./presenceTypes.ts"
import { type StoreUnavailable, transaction, withStoreErrors } from "./sql.ts"
import { makeRowReader } from "./UnreadableRow.ts"

/** An online client and its delivery state as of its last touch, whichever node holds the connection. */
export interface RemoteClient {
  readonly client: ClientRef
  readonly sent: Revision | null
  readonly applied: Revision | null
  readonly nack: RecordedNack | null
}

/** Claims, touches, releases and expires sessions, and lists online clients. Claims and touches need the node's lease. */
export class PresenceStore extends Context.Service<PresenceStore, {
  /**
   * Makes these sessions the holders of their clients. The last of several claims for one client wins. If a session of
   * another node held the client before, that session goes to the node's mailbox (`NodeStore.collectTakeovers`).
   */
  claim(node: string, claims: ReadonlyArray<Claim>): Effect.Effect<ClaimResult, LeaseLapsed | StoreUnavailable>
  /** Stores the last-seen time and delivery state of live sessions. Skips rows that other transactions have locked. */
  touch(node: string, seen: ReadonlyArray<SessionTouch>): Effect.Effect<TouchResult, LeaseLapsed | StoreUnavailable>
  /** Finds out why sessions no longer hold their clients. Sessions of deleted clients are in neither set. */
  classifyLost(lost: ReadonlyArray<LostSession>): Effect.Effect<LossCauses, StoreUnavailable>
  /** Marks the clients of ended sessions offline. A client with a newer session stays online. */
  release(ended: ReadonlyArray<EndedSession>): Effect.Effect<ReleaseResult, StoreUnavailable>
  /**
   * Marks clients offline whose node's lease has expired, or whose last touch is older than `limit` by the clock of the
   * database. Returns nothing while another process runs it.
   */
  expireSessions(limit: Duration.Duration): Effect.Effect<ReadonlyArray<ExpiredSession>, StoreUnavailable>
  /** One page of the clients that are online, whichever node holds the connection. */
  listConnected(
    request: PageRequest,
    filter?: Omit<ClientFilter, "status">
  ): Effect.Effect<Page<ConnectedClient>, StoreUnavailable>
  /** Those of these clients that are online, with the delivery state of their last touch. */
  findOnline(clients: ReadonlyArray<ClientRef>): Effect.Effect<ReadonlyArray<RemoteClient>, StoreUnavailable>
}>()("control/store/PresenceStore") {
  static readonly layer = Layer.effect(
    PresenceStore,
    Effect.gen(function*() {
      const sql = yield* ReservedPool
      const { writingCipher } = yield* Secrets
      const forBothTables = makeForBothTables(sql)
      const requireLease = makeRequireLease(sql)

      const claim = Effect.fn("PresenceStore.claim")(function*(node: string, claims: ReadonlyArray<Claim>) {
        const newest = newestOfEach(claims)
        const rows = yield* forBothTables(
          newest,
          (table, items) => claimRows(sql, writingCipher(sql), node, table, items),
          Effect.gen(function*() {
            yield* requireLease(node)
            if (newest.some(writesAuditedColumns)) yield* sql`select set_config('control.actor', 'client', true)`
            // Skips locked keys (a revocation is in progress) and keys that were updated within the last minute.
            yield* sql`update api_keys set last_used_at = now() where id in
              (select id from api_keys where id = any(${newest.map(({ keyId }) => keyId)}::text[])
                and (last_used_at is null or last_used_at < now() - interval '1 minute') for no key update skip locked)`
          })
        )
        return claimResultOf(rows.flat())
      })

      const touch = Effect.fn("PresenceStore.touch")(function*(node: string, seen: ReadonlyArray<SessionTouch>) {
        const rows = yield* forBothTables(seen, (table, items) => touchRows(sql, table, items), requireLease(node))
        return touchResultOf(rows.flat())
      })

      const classifyLost = Effect.fn("PresenceStore.classifyLost")(function*(lost: ReadonlyArray<LostSession>) {
        return lossCausesOf((yield* forBothTables(lost, (table, items) => classifyLostRows(sql, table, items))).flat())
      })

      const release = Effect.fn("PresenceStore.release")(function*(ended: ReadonlyArray<EndedSession>) {
        return releaseResultOf((yield* forBothTables(ended, (table, items) => releaseRows(sql, table, items))).flat())
      })

      const expireSessions = Effect.fn("PresenceStore.expireSessions")(function*(limit: Duration.Duration) {
        return yield* transaction(sql)(expireSessionRows(sql, limit))
      })

      // The reserved connections are for presence; requests of operators use the others.
      const general = yield* SqlClient.SqlClient
      const listConnected = keysetPages(
        general,
        connectedClientsQuery,
        connectedClients.read,
        clientConditions(general, "session_address")
      )

      return PresenceStore.of({
        claim,
        touch,
        classifyLost,
        release,
        expireSessions,
        listConnected,
        findOnline: findOnlineIn(sql)
      })
    })
  )
}

/** Runs a batch statement for the agents and for the gateways in one transaction, after the effect `before`. */
const makeForBothTables = (sql: SqlClient.SqlClient) =>
<Item extends ClientSession, E = never>(
  all: ReadonlyArray<Item>,
  run: (
    table: PresenceTable,
    items: ReadonlyArray<Item>
  ) => Effect.Effect<ResultRows, SqlError.SqlError | StoreUnavailable>,
  before: Effect.Effect<void, E | SqlError.SqlError> = Effect.void
) => {
  const part = (type: ClientType) => {
    const items = inLockOrder(all.filter((item) => item.type === type))
    return items.length === 0 ? Effect.succeed([]) : run(`${type}s`, items)
  }
  return transaction(sql)(Effect.andThen(before, Effect.all([part("agent"), part("gateway")])))
}

/** Locks the lease until the commit. The lock blocks the expiry of this node by others, and not its next renewal. */
const makeRequireLease = (sql: SqlClient.SqlClient) => (node: string) =>
  Effect.flatMap(
    sql`select 1 from nodes where id = ${node} and lease_until > now() for key share`,
    (rows) => rows.length === 0 ? Effect.fail(new LeaseLapsed()) : Effect.void
  )

const findOnlineIn = (sql: SqlClient.SqlClient) =>
  Effect.fn("PresenceStore.findOnline")(function*(clients: ReadonlyArray<ClientRef>) {
    const idsOf = (type: ClientType) => clients.flatMap((client) => client.type === type ? [client.id] : [])
    const rows = yield* withStoreErrors(
      sql`select type, id, sent_revision::float8 as sent, applied_revision::float8 as applied,
      nack from ${sql.literal(onlineClients)}
      where type = 'agent' and id = any(${idsOf("agent")}::text[])
        or type = 'gateway' and id = any(${idsOf("gateway")}::text[])`
    )
    return decodeRemoteClients(rows).map(({ applied, nack, sent, ...client }): RemoteClient => ({
      client,
      sent,
      applied,
      nack
    }))
  })

const onlineClients = `(${
  [["agent", "agents"], ["gateway", "gateways"]].map(([type, table]) =>
    `select '${type}' as type, id, name, session_since, session_address, session_level, session_version, last_seen_at,
      sent_revision, applied_revision, nack, (select n.name from nodes n where n.id = session_node) as node from ${table}
      where ${onlineCondition}`
  ).join(" union all ")
}) as connected`

const connectedClientsQuery: KeysetQuery = {
  columns: `type as "clientType", id as "clientId", name, node, control_iso(session_since) as since,
    session_address as address, session_level as level, session_version as "clientVersion",
    control_iso(last_seen_at) as "lastSeenAt", ${deliveryColumns}`,
  from: onlineClients,
  orderBy: "session_since",
  key: "type || ':' || id"
}

const deliveryFields = {
  sent: Schema.NullOr(Revision),
  applied: Schema.NullOr(Revision),
  nack: Schema.NullOr(Schema.Struct({ ...Nack.fields.data.fields, at: Schema.String }))
}
const decodeRemoteClients = Schema.decodeUnknownSync(Schema.Array(Schema.Union([
  Schema.Struct({ type: Schema.Literal("agent"), id: AgentId, ...deliveryFields }),
  Schema.Struct({ type: Schema.Literal("gateway"), id: GatewayId, ...deliveryFields })
])))

const connectedClients = makeRowReader(
  ConnectedClient,
  ({ clientId, clientType }) => ({ entity: String(clientType), id: clientId })
)

/** Every writer locks rows in the order of their ids, so that two nodes that write the same rows cannot deadlock. */
function inLockOrder<Item extends ClientSession>(items: ReadonlyArray<Item>): ReadonlyArray<Item> {
  return items.toSorted((a, b) => a.id < b.id ? -1 : a.id > b.id ? 1 : 0)
}

function newestOfEach(claims: ReadonlyArray<Claim>): ReadonlyArray<Claim> {
  return [...new Map(claims.map((claim) => [formatClientRef(claim), claim])).values()]
}
