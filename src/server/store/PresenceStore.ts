/** Who is online, in the rows of agents and gateways. Every write is fenced by its session, and many go out as one. */
import { Nack, type NotedNack } from "#schema/clientMessages.ts"
import { AgentId, type ClientRef, type ClientType, GatewayId, nameOf, Revision, SessionId } from "#schema/ids.ts"
import { ConnectedClient, type Page, type PageRequest } from "#schema/resources.ts"
import { Context, type Duration, Effect, Layer, Schema } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { keysetPages, type Listed } from "./keysetPages.ts"
import { isOnline, progressColumns } from "./presenceColumns.ts"
import { ReservedPool } from "./ReservedPool.ts"
import {
  changesRow,
  claimIn,
  fatesIn,
  releaseIn,
  type Rows,
  sweepWith,
  type Table,
  touchIn
} from "./presenceStatements.ts"
import { Secrets } from "./secrets/Secrets.ts"
import {
  type Begun,
  type Claim,
  type Claimed,
  type Ended,
  type Fates,
  type Held,
  LeaseLapsed,
  type Released,
  type Seen,
  type Swept,
  type Touched
} from "./presenceTypes.ts"
import { atEdge, type StoreUnavailable, transaction } from "./sql.ts"
import { readerOf } from "./UnreadableRow.ts"

export type {
  Begun,
  Claim,
  Claimed,
  Ended,
  Fates,
  Held,
  Moment,
  Released,
  Seen,
  Swept,
  Touched,
  Wanted,
  WireguardKeys
} from "./presenceTypes.ts"
export { LeaseLapsed } from "./presenceTypes.ts"

/** A client that another process serves. */
export interface Elsewhere {
  readonly client: ClientRef
  readonly sent: Revision | null
  readonly applied: Revision | null
  readonly nack: NotedNack | null
}

export class PresenceStore extends Context.Service<PresenceStore, {
  /**
   * Makes these sessions the holders of their clients, the last of two for one client; says for whom that failed. The
   * node of the session before, if it is another one, finds it in its mailbox (`NodeStore`).
   */
  claim(node: string, claims: ReadonlyArray<Claim>): Effect.Effect<Claimed, LeaseLapsed | StoreUnavailable>
  /** They were heard of lately; says who still holds its client, but for rows that somebody has locked. */
  touch(node: string, seen: ReadonlyArray<Seen>): Effect.Effect<Touched, LeaseLapsed | StoreUnavailable>
  /** What became of sessions that do not hold their client any more; of one whose client is gone, nothing is said. */
  fatesOf(lost: ReadonlyArray<Begun>): Effect.Effect<Fates, StoreUnavailable>
  /** They have ended; a client that has a newer session stays online. */
  release(ended: ReadonlyArray<Ended>): Effect.Effect<Released, StoreUnavailable>
  /**
   * Shows as offline who is marked online but was not touched for this long by the database's clock. One process at a time.
   */
  sweep(limit: Duration.Duration): Effect.Effect<ReadonlyArray<Swept>, StoreUnavailable>
  /** Who is online, whichever node holds the connection. */
  connected(request: PageRequest): Effect.Effect<Page<ConnectedClient>, StoreUnavailable>
  /** Which of these clients are online, and how far they have come by their last touch. */
  elsewhere(clients: ReadonlyArray<ClientRef>): Effect.Effect<ReadonlyArray<Elsewhere>, StoreUnavailable>
}>()("control/store/PresenceStore") {
  static readonly layer = Layer.effect(
    PresenceStore,
    Effect.gen(function*() {
      const sql = yield* ReservedPool
      const { writingCipher } = yield* Secrets
      const inTransaction = transaction(sql)

      const forBoth = <Item extends Held, E = never>(
        all: ReadonlyArray<Item>,
        run: (table: Table, items: ReadonlyArray<Item>) => Effect.Effect<Rows, SqlError.SqlError | StoreUnavailable>,
        before: Effect.Effect<void, E | SqlError.SqlError> = Effect.void
      ) => {
        const part = (type: ClientType) => {
          const items = sorted(all.filter((item) => item.type === type))
          return items.length === 0 ? Effect.succeed([]) : run(`${type}s`, items)
        }
        return inTransaction(
          Effect.andThen(before, Effect.all([part("agent"), part("gateway")]))
        )
      }

      /** The lease is held until the commit: whoever sweeps waits for that, and the next renewal does not. */
      const leased = (node: string) =>
        Effect.flatMap(
          sql`select 1 from nodes where id = ${node} and lease_until > now() for key share`,
          (rows) => rows.length === 0 ? Effect.fail(new LeaseLapsed()) : Effect.void
        )

      const claim = Effect.fn("PresenceStore.claim")(function*(node: string, claims: ReadonlyArray<Claim>) {
        const newest = newestOfEach(claims)
        const left = yield* forBoth(
          newest,
          (table, items) => claimIn(sql, writingCipher(sql), node, table, items),
          Effect.gen(function*() {
            yield* leased(node)
            if (newest.some(changesRow)) yield* sql`select set_config('control.actor', 'client', true)`
            // A key that is being revoked is locked, and is not worth waiting for; a minute more or less is not worth a write.
            yield* sql`update api_keys set last_used_at = now() where id in
              (select id from api_keys where id = any(${newest.map(({ keyId }) => keyId)}::text[])
                and (last_used_at is null or last_used_at < now() - interval '1 minute') for no key update skip locked)`
          })
        )
        return claimedOf(left.flat())
      })

      const touch = Effect.fn("PresenceStore.touch")(function*(node: string, seen: ReadonlyArray<Seen>) {
        const rows = yield* forBoth(seen, (table, items) => touchIn(sql, table, items), leased(node))
        return touchedOf(rows.flat())
      })

      const fatesOf = Effect.fn("PresenceStore.fatesOf")(function*(lost: ReadonlyArray<Begun>) {
        const rows = decodeFates((yield* forBoth(lost, (table, items) => fatesIn(sql, table, items))).flat())
        const those = (taken: boolean) =>
          new Set(rows.filter((row) => row.taken === taken).map(({ session }) => session))
        return { taken: those(true), undone: those(false) }
      })

      const release = Effect.fn("PresenceStore.release")(function*(ended: ReadonlyArray<Ended>) {
        return releasedOf((yield* forBoth(ended, (table, items) => releaseIn(sql, table, items))).flat())
      })

      const sweep = Effect.fn("PresenceStore.sweep")(function*(limit: Duration.Duration) {
        return yield* inTransaction(sweepWith(sql, limit))
      })

      const connected = keysetPages(yield* SqlClient.SqlClient, connectedClients, connections.read)

      return PresenceStore.of({ claim, touch, fatesOf, release, sweep, connected, elsewhere: elsewhereIn(sql) })
    })
  )
}

const elsewhereIn = (sql: SqlClient.SqlClient) =>
  Effect.fn("PresenceStore.elsewhere")(function*(clients: ReadonlyArray<ClientRef>) {
    const idsOf = (type: ClientType) => clients.flatMap((client) => client.type === type ? [client.id] : [])
    const rows = yield* atEdge(sql`select type, id, sent_revision::float8 as sent, applied_revision::float8 as applied,
      nack from ${sql.literal(everyConnected)}
      where type = 'agent' and id = any(${idsOf("agent")}::text[])
        or type = 'gateway' and id = any(${idsOf("gateway")}::text[])`)
    return decodeElsewhere(rows).map(({ applied, nack, sent, ...client }): Elsewhere => ({
      client,
      sent,
      applied,
      nack
    }))
  })

const decodeFates = Schema.decodeUnknownSync(
  Schema.Array(Schema.Struct({ session: SessionId, taken: Schema.Boolean }))
)

function claimedOf(rows: Rows): Claimed {
  const left = decodeLeft(rows)
  const names = (wanted: boolean) =>
    new Set(
      left.flatMap((row) =>
        row.at !== null || row.there !== wanted ? [] : [nameOf(
          row.kind === "agents"
            ? { type: "agent", id: AgentId.make(row.id) }
            : { type: "gateway", id: GatewayId.make(row.id) }
        )]
      )
    )
  return { at: newestOf(left.map(({ at }) => at)), gone: names(false), busy: names(true) }
}

/** The row that says when it was, behind the others. */
const Moment = Schema.Struct({ at: Schema.Finite })

const decodeLeft = Schema.decodeUnknownSync(Schema.Array(Schema.Union([
  Moment,
  Schema.Struct({
    id: Schema.String,
    kind: Schema.Literals(["agents", "gateways"]),
    there: Schema.Boolean,
    at: Schema.Null
  })
])))

function releasedOf(rows: Rows): Released {
  const left = decodeReleased(rows)
  const those = (wanted: "busy" | "taken" | "gone") =>
    new Set(left.flatMap((row) => row.at === null && row.why === wanted ? [row.session] : []))
  return { at: newestOf(left.map(({ at }) => at)), busy: those("busy"), taken: those("taken"), gone: those("gone") }
}

const decodeReleased = Schema.decodeUnknownSync(Schema.Array(Schema.Union([
  Moment,
  Schema.Struct({ session: SessionId, why: Schema.Literals(["busy", "taken", "gone"]), at: Schema.Null })
])))

/** All in one transaction: as long as the first row is locked, so is the last, and the newest moment is right for both. */
function newestOf(moments: ReadonlyArray<number | null>): number {
  return moments.reduce<number>((newest, at) => at !== null && at > newest ? at : newest, 0)
}

const everyConnected = `(${
  [["agent", "agents"], ["gateway", "gateways"]].map(([type, table]) =>
    `select '${type}' as type, id, name, session_since, session_address, session_level, session_version, last_seen_at,
      sent_revision, applied_revision, nack, (select n.name from nodes n where n.id = session_node) as node from ${table}
      where ${isOnline}`
  ).join(" union all ")
}) as connected`

const connectedClients: Listed = {
  columns: `type as "clientType", id as "clientId", name, node, control_iso(session_since) as since,
    session_address as address, session_level as level, session_version as "clientVersion",
    control_iso(last_seen_at) as "lastSeenAt", ${progressColumns}`,
  from: everyConnected,
  when: "session_since",
  key: "type || ':' || id"
}

const how = {
  sent: Schema.NullOr(Revision),
  applied: Schema.NullOr(Revision),
  nack: Schema.NullOr(Schema.Struct({ ...Nack.fields.data.fields, at: Schema.String }))
}
const decodeElsewhere = Schema.decodeUnknownSync(Schema.Array(Schema.Union([
  Schema.Struct({ type: Schema.Literal("agent"), id: AgentId, ...how }),
  Schema.Struct({ type: Schema.Literal("gateway"), id: GatewayId, ...how })
])))

const connections = readerOf(
  ConnectedClient,
  ({ clientId, clientType }) => ({ entity: String(clientType), id: clientId })
)

function touchedOf(rows: Rows): Touched {
  const touched = decodeTouched(rows)
  return {
    at: newestOf(touched.map(({ againAt }) => againAt)),
    held: new Set(touched.map(({ session }) => session)),
    again: new Set(touched.flatMap(({ againAt, session }) => againAt === null ? [] : [session]))
  }
}

const decodeTouched = Schema.decodeUnknownSync(
  Schema.Array(Schema.Struct({ session: SessionId, againAt: Schema.NullOr(Schema.Finite) }))
)

/** One order for all, so that two nodes that write the same rows never wait for each other in a circle. */
function sorted<Item extends Held>(items: ReadonlyArray<Item>): ReadonlyArray<Item> {
  return items.toSorted((a, b) => a.id < b.id ? -1 : a.id > b.id ? 1 : 0)
}

function newestOfEach(claims: ReadonlyArray<Claim>): ReadonlyArray<Claim> {
  return [...new Map(claims.map((claim) => [nameOf(claim), claim])).values()]
}
