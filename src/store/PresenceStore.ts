/** Who is online, in the rows of agents and gateways. Every write is fenced by its session, and many go out as one. */
import { AgentId, type ClientRef, type ClientType, GatewayId, nameOf, SessionId } from "#schema/ids.ts"
import type { Level } from "#schema/protocol.ts"
import { ConnectedClient, type Page, type PageRequest } from "#schema/resources.ts"
import { Context, Duration, Effect, Layer, Schema } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import { type Listed, pagesOf } from "./pages.ts"
import { type StoreUnavailable, transaction } from "./sql.ts"

/** A session and the client that it stands for. */
export type Held = ClientRef & { readonly session: SessionId }

/** What a session is claimed with. */
export type Wanted = ClientRef & {
  readonly address: string
  /** The protocol level that was agreed on. */
  readonly level: Level
  /** The address that a gateway has told; null keeps the stored one. */
  readonly publicIp: string | null
}

export type Claim = Wanted & Held

/** A session, and how long ago its client last said something, in milliseconds. */
export type Seen = Held & { readonly ageMillis: number }

export class PresenceStore extends Context.Service<PresenceStore, {
  /** Makes these sessions the holders of their clients, the last of two for one client; gives back which clients do not exist, by `nameOf`. */
  claim(node: string, claims: ReadonlyArray<Claim>): Effect.Effect<ReadonlySet<string>, StoreUnavailable>
  /** They were heard of lately; gives back those that still hold their client. */
  touch(seen: ReadonlyArray<Seen>): Effect.Effect<ReadonlySet<SessionId>, StoreUnavailable>
  /** They have ended; a client that has a newer session stays online. */
  release(held: ReadonlyArray<Held>): Effect.Effect<void, StoreUnavailable>
  /** Shows as offline who is marked online but was not touched for this long by the database's clock: its node is gone. */
  sweep(limit: Duration.Duration): Effect.Effect<number, StoreUnavailable>
  /** Who is online, whichever node holds the connection. */
  connected(request: PageRequest): Effect.Effect<Page<ConnectedClient>, StoreUnavailable>
}>()("control/store/PresenceStore") {
  static readonly layer = Layer.effect(
    PresenceStore,
    Effect.gen(function*() {
      const sql = yield* SqlClient.SqlClient
      const inTransaction = transaction(sql)

      const forBoth = <Item extends Held>(
        all: ReadonlyArray<Item>,
        run: (table: "agents" | "gateways", items: ReadonlyArray<Item>) => Effect.Effect<Rows, SqlError.SqlError>
      ) => {
        const part = (type: ClientType) => {
          const items = sorted(all.filter((item) => item.type === type))
          return items.length === 0 ? Effect.succeed([]) : run(`${type}s`, items)
        }
        return inTransaction(Effect.all([part("agent"), part("gateway")]))
      }

      const claim = Effect.fn("PresenceStore.claim")(function*(node: string, claims: ReadonlyArray<Claim>) {
        const [agents, gateways] = yield* forBoth(newestOfEach(claims), (table, items) => {
          const publicIp = sql.literal(table === "gateways" ? toldAddress : "")
          const [sessions, levels] = [items.map((item) => item.session), items.map((item) => item.level)]
          return sql`with c as (select * from unnest(${idsIn(items)}::text[], ${sessions}::text[],
              ${items.map((item) => item.address)}::text[], ${levels}::text[],
              ${items.map((item) => item.publicIp ?? "")}::text[]) as c (id, session, address, level, public_ip)),
            u as (update ${
            sql(table)
          } t set ${publicIp} status = 'online', last_seen_at = now(), session_id = c.session,
              session_node = ${node}, session_since = now(), session_address = c.address, session_level = c.level
            from c where t.id = c.id returning t.id)
            select c.id from c where not exists (select 1 from u where u.id = c.id)`
        })
        return new Set([
          ...idsOf(agents).map((id) => nameOf({ type: "agent", id: AgentId.make(id) })),
          ...idsOf(gateways).map((id) => nameOf({ type: "gateway", id: GatewayId.make(id) }))
        ])
      })

      const touch = Effect.fn("PresenceStore.touch")(function*(seen: ReadonlyArray<Seen>) {
        const rows = yield* forBoth(seen, (table, items) => {
          const [sessions, ages] = [items.map((item) => item.session), items.map((item) => Math.round(item.ageMillis))]
          return sql`
            update ${sql(table)} t set status = 'online', last_seen_at = now() - h.age_ms * interval '1 millisecond'
            from unnest(${idsIn(items)}::text[], ${sessions}::text[], ${ages}::bigint[]) as h (id, session, age_ms)
            where t.id = h.id and t.session_id = h.session returning t.session_id as session`
        })
        return sessionsOf(rows.flat())
      })

      const release = Effect.fn("PresenceStore.release")(function*(held: ReadonlyArray<Held>) {
        yield* forBoth(held, (table, items) => {
          const sessions = items.map((item) => item.session)
          return sql`update ${sql(table)} t set status = 'offline', session_id = null
            from unnest(${idsIn(items)}::text[], ${sessions}::text[]) as h (id, session)
            where t.id = h.id and t.session_id = h.session`
        })
      })

      const sweep = Effect.fn("PresenceStore.sweep")(function*(limit: Duration.Duration) {
        const seconds = Duration.toSeconds(limit)
        const rows = yield* inTransaction(
          Effect.all((["agents", "gateways"] as const).map((table) =>
            sql`update ${sql(table)} set status = 'offline'
            where status = 'online' and last_seen_at < now() - make_interval(secs => ${seconds}) returning id`
          ))
        )
        return rows.flat().length
      })

      const connected = pagesOf(sql, connectedClients, decodeConnected)

      return PresenceStore.of({ claim, touch, release, sweep, connected })
    })
  )
}

type Rows = ReadonlyArray<object>

const toldAddress = "public_ip = coalesce(nullif(c.public_ip, ''), t.public_ip),"

const idsIn = (items: ReadonlyArray<Held>): ReadonlyArray<string> => items.map((item) => item.id)

const everyConnected = `(${
  [["agent", "agents"], ["gateway", "gateways"]].map(([type, table]) =>
    `select '${type}' as type, id, name, session_since, session_address, session_level, last_seen_at from ${table}
      where status = 'online' and session_id is not null`
  ).join(" union all ")
}) as connected`

const connectedClients: Listed = {
  columns: `type as "clientType", id as "clientId", name, control_iso(session_since) as since,
    session_address as address, session_level as level, control_iso(last_seen_at) as "lastSeenAt"`,
  from: everyConnected,
  when: "session_since",
  key: "type || ':' || id"
}

const decodeConnected = Schema.decodeUnknownSync(Schema.Array(ConnectedClient))

const idsOf = (rows: ReadonlyArray<unknown>): ReadonlyArray<string> => decodeIds(rows).map((row) => row.id)
const decodeIds = Schema.decodeUnknownSync(Schema.Array(Schema.Struct({ id: Schema.String })))

const sessionsOf = (rows: ReadonlyArray<unknown>): ReadonlySet<SessionId> =>
  new Set(decodeSessions(rows).map((row) => row.session))
const decodeSessions = Schema.decodeUnknownSync(Schema.Array(Schema.Struct({ session: SessionId })))

/** One order for all, so that two nodes that write the same rows never wait for each other in a circle. */
function sorted<Item extends Held>(items: ReadonlyArray<Item>): ReadonlyArray<Item> {
  return items.toSorted((a, b) => a.id < b.id ? -1 : a.id > b.id ? 1 : 0)
}

function newestOfEach(claims: ReadonlyArray<Claim>): ReadonlyArray<Claim> {
  return [...new Map(claims.map((claim) => [nameOf(claim), claim])).values()]
}
